-- Forget ids of executions that were deleted, the oldest first.
--
-- $1 seconds float8   how long they are kept after the end of the execution
-- $2 limit int4
-- Returns n int8
-- Locks   the rows, skip locked
-- Index   kept_by_end, kept_pkey
with old as materialized (
    select execution_id from durable.kept
     where ended_at <= durable.clock() - make_interval(secs => $1::float8)
     order by ended_at
     limit $2::int4
       for update skip locked
), gone as (
    delete from durable.kept where execution_id = any (array(select execution_id from old)) returning 1
)
select count(*) as n from gone
