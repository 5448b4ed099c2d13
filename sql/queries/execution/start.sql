-- Start executions: each is born into one place, or found to exist already. A start that is sent again finds itself.
--
-- $1  execution_id uuid[]      in ascending order, so that two batches with common ids cannot deadlock
-- $2  name text[]              the caller's id, null for a generated one
-- $3  operation uuid[]         names this very start
-- $4  shape_id int8[]
-- $5  workflow text[]
-- $6  version int4[]
-- $7  queue text[]
-- $8  priority int2[]
-- $9  tags text[]              JSON objects, or null
-- $10 input text[]           JSON; as text, because a caller's own connection may have another codec for json
-- $11 scheduled_at timestamptz[]  not before; null for at once
-- $12 delay float8[]           seconds from now; null for none
-- $13 timeout float8[]         seconds from when it is due to its deadline; null for none
-- $14 token uuid[]             claim at birth, or null to be made ready
-- $15 owner uuid               the worker that claims at birth
-- Returns n int8, created bool, existing_workflow text, due_in float8
-- Locks   the new rows only; waits for a concurrent start of the same id
-- Index   execution_pkey
with given as materialized (
    select g.*, greatest(coalesce(g.scheduled_at, durable.clock()), durable.clock() + make_interval(secs => coalesce(g.delay, 0))) as due_at
      from unnest($1::uuid[], $2::text[], $3::uuid[], $4::int8[], $5::text[], $6::int4[], $7::text[], $8::int2[], $9::text[], $10::text[],
                  $11::timestamptz[], $12::float8[], $13::float8[], $14::uuid[])
           with ordinality as g(execution_id, name, operation, shape_id, workflow, version, queue, priority, tags, input,
                                scheduled_at, delay, timeout, token, n)
), born as (
    insert into durable.execution (execution_id, shape_id, started_by, created_at, due_at, deadline_at, version, priority, status,
                                   workflow, queue, name, tags, input)
    select g.execution_id, g.shape_id, g.operation, durable.clock(), g.due_at, g.due_at + make_interval(secs => g.timeout), g.version,
           g.priority, 'pending', g.workflow, g.queue, g.name, g.tags::jsonb, g.input::json
      from given g
     order by g.execution_id
        on conflict (execution_id) do nothing
    returning execution_id, started_by
), judged as materialized (
    select g.*, g.operation in (select started_by from born) as created, g.due_at > durable.clock() as later from given g
), claimed as (
    insert into durable.claim (execution_id, owner, token, claimed_at, crashes)
    select execution_id, $15::uuid, token, durable.clock(), 0 from judged where created and token is not null
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue)
    select execution_id, due_at, shape_id, priority, 0, false, queue from judged where created and token is null and not later
), delayed as (
    insert into durable.wake (execution_id, due_at)
    select execution_id, due_at from judged where created and token is null and later
)
select g.n, g.created or old.started_by is not distinct from g.operation as created, old.workflow as existing_workflow,
       case when g.later then extract(epoch from g.due_at - durable.clock())::float8 end as due_in
  from judged g
  left join lateral (
       select e.started_by, e.workflow from durable.execution e where not g.created and e.execution_id = g.execution_id offset 0
  ) old on true
