-- What is due, or is queued and may go on, of the schedules that a worker can fire; and when the next one is due.
--
-- $1 workflow text[]       what the worker knows
-- $2 version int4[]        the newest version of it
-- $3 declaration text[]    what its code declares: others' schedules are left to them
-- $4 put_off text[]        names of schedules to be left out
-- $5 limit int4
-- Returns now timestamptz, next_in float8, queueing bool, name text, revision int8, workflow text, rule json, next_at timestamptz, handled_at timestamptz, queued timestamptz[], overlap text, catch_up text, catch_up_window float8, jitter float8, version int4, queue text, priority int2, tags text, input json, live bool
--         one row without a name when nothing is due; queueing: some instants wait for an execution to end
-- Locks   nothing
-- Index   schedule_by_time, schedule_queued, schedule_pkey, execution_pkey
with mine as materialized (
    select m.workflow, m.version from unnest($1::text[], $2::int4[]) as m(workflow, version)
), due as materialized (
    (select s.name
       from durable.schedule s
      where s.due_at <= durable.clock() and s.name <> all ($4::text[]) and (s.declaration is null or s.declaration = any ($3::text[]))
        and exists (select from mine m where m.workflow = s.workflow and m.version >= s.version)
      order by s.due_at
      limit $5::int4)
    union
    (select s.name
       from durable.schedule s
      where s.queued <> '{}' and not s.paused and s.name <> all ($4::text[]) and (s.declaration is null or s.declaration = any ($3::text[]))
        and exists (select from mine m where m.workflow = s.workflow and m.version >= s.version)
        and not exists (select from durable.execution e where e.execution_id = s.last_execution_id and e.ended_at is null)
      limit $5::int4)
), found as (
    select s.name, s.revision, s.workflow, s.rule, s.next_at, s.handled_at, s.queued, s.overlap, s.catch_up, s.catch_up_window, s.jitter, s.version,
           s.queue, s.priority, s.tags::text as tags, s.input,
           exists (select from durable.execution e where e.execution_id = s.last_execution_id and e.ended_at is null offset 0) as live
      from due d
      join durable.schedule s on s.name = any (array[d.name])
), coming as (
    select s.due_at
      from durable.schedule s
     where s.due_at > durable.clock() and (s.declaration is null or s.declaration = any ($3::text[]))
       and exists (select from mine m where m.workflow = s.workflow and m.version >= s.version)
     order by s.due_at
     limit 1
)
select durable.clock() as now, extract(epoch from (select due_at from coming) - durable.clock())::float8 as next_in,
       exists (select from durable.schedule s where s.queued <> '{}' and not s.paused) as queueing, f.*
  from (select) as one
  left join found f on true
