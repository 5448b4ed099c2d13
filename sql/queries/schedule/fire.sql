-- Fire schedules: advance each, unless it was changed since it was read, and start its executions. Sent again, it finds the revisions
-- gone, and does nothing.
--
-- $1  name text[]                in ascending order
-- $2  revision int8[]            as it was read
-- $3  next_at timestamptz[]
-- $4  due_at timestamptz[]
-- $5  handled_at timestamptz[]
-- $6  queued text[]              the instants that wait, each an array: {...}
-- $7  skipped int4[]             how many firings were left out
-- $8  cancelled bool[]           whether the last execution is to be cancelled
-- $9  schedule text[]            of each start: for which schedule, in the order of its instants
-- $10 execution_id uuid[]
-- $11 execution_name text[]
-- $12 instant timestamptz[]
-- $13 shape_id int8[]
-- $14 version int4[]
-- $15 queue text[]
-- $16 priority int2[]
-- $17 tags text[]                JSON objects
-- $18 timeout float8[]           seconds from now to its deadline; null for none
-- $19 turn text[]                with whom it takes turns, in a queue with keys
-- $20 operation uuid
-- $21 reason text                why executions are cancelled
-- Returns name text, started int8, queues text[], doomed bool
--         of those that were advanced
-- Locks   schedule rows in ascending order; then the new execution rows, waiting for a concurrent start of the same id
-- Index   schedule_pkey, execution_pkey, doomed_pkey
with given as materialized (
    select * from unnest($1::text[], $2::int8[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::int4[], $8::bool[])
                  as g(name, revision, next_at, due_at, handled_at, queued, skipped, cancelled)
), held as materialized (
    select g.*, s.workflow, s.input, s.last_execution_id
      from given g
     cross join lateral (
           select s.workflow, s.input, s.last_execution_id from durable.schedule s where s.name = g.name and s.revision = g.revision for no key update
     ) s
), starting as materialized (
    select b.*, h.workflow, h.input,
           case when b.turn is not null and exists (select from durable.queue q where q.queue = b.queue and q.keyed) then b.turn else '' end as key
      from unnest($9::text[], $10::uuid[], $11::text[], $12::timestamptz[], $13::int8[], $14::int4[], $15::text[], $16::int2[], $17::text[], $18::float8[], $19::text[])
           with ordinality as b(schedule, execution_id, name, instant, shape_id, version, queue, priority, tags, timeout, turn, n)
     cross join lateral (select h.workflow, h.input from held h where h.name = b.schedule) h
), born as (
    insert into durable.execution (execution_id, shape_id, started_by, created_at, due_at, deadline_at, version, priority, status,
                                   workflow, queue, key, name, tags, input)
    select execution_id, shape_id, $20::uuid, durable.clock(), durable.clock(), durable.clock() + make_interval(secs => timeout), version,
           priority, 'pending', workflow, queue, key, name, tags::jsonb, input
      from starting
     order by execution_id
        on conflict (execution_id) do nothing
    returning execution_id
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, durable.clock(), shape_id, priority, 0, false, queue, key
      from starting
     where execution_id in (select execution_id from born)
), doomed as (
    insert into durable.doomed (execution_id, doomed_at, undo, reason)
    select last_execution_id, durable.clock(), false, $21::text
      from held
     where cancelled and last_execution_id is not null
     order by last_execution_id
        on conflict (execution_id) do nothing
), told as materialized (
    select h.name, h.next_at, h.due_at, h.handled_at, h.queued, h.skipped, h.cancelled, l.execution_id as last_execution_id, l.instant as last_at,
           (select count(*) from starting b where b.schedule = h.name and b.execution_id in (select execution_id from born)) as started,
           (select array_agg(distinct b.queue) from starting b where b.schedule = h.name) as queues
      from held h
      left join lateral (select b.execution_id, b.instant from starting b where b.schedule = h.name order by b.n desc limit 1) l on true
), advanced as (
    update durable.schedule s
       set revision = s.revision + 1, next_at = t.next_at, due_at = t.due_at, handled_at = t.handled_at, queued = t.queued::timestamptz[],
           skipped = s.skipped + t.skipped, last_execution_id = coalesce(t.last_execution_id, s.last_execution_id),
           last_at = coalesce(t.last_at, s.last_at)
      from told t
     where s.name = any (array[t.name])
)
select name, started, queues, cancelled as doomed from told
