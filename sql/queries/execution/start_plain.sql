-- Start executions of generated ids that are due at once, in queues without limits and keys: like `execution/start`, and not those of other
-- queues. A start that is sent again is not created again, and does not find itself.
--
-- $1  execution_id uuid[]      in ascending order; each is the operation, too
-- $2  shape_id int8[]
-- $3  workflow text[]
-- $4  version int4[]
-- $5  queue text[]
-- $6  priority int2[]
-- $7  tags text[]              JSON objects, or null
-- $8  input text[]             JSON
-- $9  timeout float8[]         seconds to its deadline; null for none
-- $10 token uuid[]             claim at birth; null to be made ready
-- $11 owner uuid               the worker that claims at birth
-- Returns n int8, created bool, existing_workflow text, due_in float8, claimed bool, refused text
--         of those that were created, as `execution/start` does
-- Locks   the new rows only
-- Index   execution_pkey, queue_pkey
with given as materialized (
    select *
      from unnest($1::uuid[], durable.filled($2::int8[], $1::uuid[]), durable.filled($3::text[], $1::uuid[]), durable.filled($4::int4[], $1::uuid[]),
                  durable.filled($5::text[], $1::uuid[]), durable.filled($6::int2[], $1::uuid[]), durable.filled($7::text[], $1::uuid[]), $8::text[],
                  durable.filled($9::float8[], $1::uuid[]), $10::uuid[])
           with ordinality as g(execution_id, shape_id, workflow, version, queue, priority, tags, input, timeout, token, n)
     where g.queue not in (select q.queue from durable.queue q where q.queue = any ($5::text[]) and (q.limited or q.keyed or q.max_depth is not null))
), born as (
    insert into durable.execution (execution_id, shape_id, started_by, created_at, due_at, deadline_at, version, priority, status,
                                   workflow, queue, tags, input)
    select execution_id, shape_id, execution_id, durable.clock(), durable.clock(), durable.clock() + make_interval(secs => timeout), version,
           priority, 'pending', workflow, queue, tags::jsonb, input::json
      from given
        on conflict (execution_id) do nothing
    returning execution_id
), created as materialized (
    select * from (select g.*, execution_id in (select execution_id from born) as created from given g offset 0) as judged where created
), claimed as (
    insert into durable.claim (execution_id, owner, token, claimed_at, crashes)
    select execution_id, $11::uuid, token, durable.clock(), 0 from created where token is not null
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue)
    select execution_id, durable.clock(), shape_id, priority, 0, false, queue from created where token is null
)
select n, true as created, null::text as existing_workflow, null::float8 as due_in, token is not null as claimed, null::text as refused
  from created
