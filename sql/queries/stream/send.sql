-- Append what bodies tell, each under its claim, in the order of the rows. Sent again, it is there once.
--
-- $1  execution_id uuid[]   in ascending order
-- $2  token uuid[]
-- $3  run uuid[]
-- $4  number int4[]         of what this run has told
-- $5  attempt int4[]
-- $6  kind text[]
-- $7  path text[]
-- $8  message text[]
-- $9  value json[]
-- Returns n int8
-- Locks   claim rows for key share, in ascending order
-- Index   claim_pkey, stream_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int4[], $5::int4[], $6::text[], $7::text[], $8::text[], $9::json[])
                  with ordinality as g(execution_id, token, run, number, attempt, kind, path, message, value, n)
), held as materialized (
    select g.*
      from given g
     cross join lateral (
           select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
     ) c
), told as (
    insert into durable.stream (execution_id, run, number, attempt, sent_at, kind, path, message, value)
    select execution_id, run, number, attempt, durable.clock(), kind, path, message, value from held order by n
        on conflict (execution_id, run, number) do nothing
)
select n from held
