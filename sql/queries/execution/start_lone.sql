-- Start one execution of a generated id that is due at once, in a queue without limits and keys: `execution/start_plain` for a single one.
--
-- $1  execution_id uuid        is the operation, too
-- $2  shape_id int8
-- $3  workflow text
-- $4  version int4
-- $5  queue text
-- $6  priority int2
-- $7  tags text                a JSON object, or null
-- $8  input text               JSON
-- $9  timeout float8           seconds to its deadline; null for none
-- $10 token uuid               claim at birth; null to be made ready
-- $11 owner uuid               the worker that claims at birth
-- Returns n int8, created bool, existing_workflow text, due_in float8, claimed bool, refused text
--         as `execution/start_plain` does: nothing, when it was not created
-- Locks   the new rows only
-- Index   execution_pkey, queue_pkey
with born as (
    insert into durable.execution (execution_id, shape_id, started_by, created_at, due_at, deadline_at, version, priority, status,
                                   workflow, queue, tags, input)
    select $1::uuid, $2::int8, $1, durable.clock(), durable.clock(), durable.clock() + make_interval(secs => $9::float8), $4::int4,
           $6::int2, 'pending', $3::text, $5::text, $7::text::jsonb, $8::text::json
     where not exists (select from durable.queue q where q.queue = $5 and (q.limited or q.keyed or q.max_depth is not null))
        on conflict (execution_id) do nothing
    returning execution_id
), claimed as (
    insert into durable.claim (execution_id, owner, token, claimed_at, crashes)
    select execution_id, $11::uuid, $10::uuid, durable.clock(), 0 from born where $10 is not null
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue)
    select execution_id, durable.clock(), $2, $6, 0, false, $5 from born where $10 is null
)
select 1::int8 as n, true as created, null::text as existing_workflow, null::float8 as due_in, $10 is not null as claimed, null::text as refused
  from born
