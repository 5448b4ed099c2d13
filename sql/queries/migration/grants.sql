-- The statements that give a role what an engine needs, and nothing else: it reads and writes the rows of our tables, and reads
-- which migrations were applied. It owns nothing, and can change neither tables nor functions nor the list of migrations. They can take
-- no parameters themselves.
--
-- $1 role text
-- Returns statement text
-- Locks   nothing
-- Index   none
select statement from (
    select 1 as place, format('grant usage on schema durable to %I', $1::text) as statement
    union all select 2, format('revoke create on schema durable from %I', $1::text)
    union all select 3, format('grant select, insert, update, delete on all tables in schema durable to %I', $1::text)
    union all select 4, format('revoke insert, update, delete on durable.migration from %I', $1::text)
    union all select 5, format('grant execute on all functions in schema durable to %I', $1::text)
    union all select 6, format('alter default privileges in schema durable grant select, insert, update, delete on tables to %I', $1::text)
    union all select 7, format('alter default privileges in schema durable grant execute on functions to %I', $1::text)
) as granted order by place
