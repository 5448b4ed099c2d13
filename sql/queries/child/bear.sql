-- Record that children are started, each under the claim of its parent, together with their birth. Sent again, it finds itself done.
--
-- $1  execution_id uuid[]   of the parents, in ascending order
-- $2  token uuid[]
-- $3  seq int4[]
-- $4  path text[]
-- $5  kind text[]           waiting when the parent waits for it, else ran
-- $6  attempt int4[]
-- $7  value json[]          the child's id, as JSON
-- $8  delay float8[]        seconds until nobody waits for it any more, null for none
-- $9  key text[]
-- $10 child_id uuid[]
-- $11 shape_id int8[]
-- $12 workflow text[]
-- $13 version int4[]
-- $14 queue text[]
-- $15 priority int2[]
-- $16 tags text[]           JSON objects, or null
-- $17 input text[]          JSON
-- $18 timeout float8[]      seconds until the child's deadline, null for none
-- $19 turn text[]           with whom it takes turns, in a queue with keys
-- $20 worker_id uuid
-- Returns n int8
-- Locks   claim rows for key share, in ascending order; then the new rows
-- Index   claim_pkey, journal_pkey, execution_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::text[], $5::text[], $6::int4[], $7::json[], $8::float8[], $9::text[], $10::uuid[],
                         $11::int8[], $12::text[], $13::int4[], $14::text[], $15::int2[], $16::text[], $17::text[], $18::float8[], $19::text[])
                  with ordinality as g(execution_id, token, seq, path, kind, attempt, value, delay, key, child_id, shape_id, workflow, version, queue,
                                       priority, tags, input, timeout, turn, n)
), held as materialized (
    select g.*, c.crashes
      from given g
     cross join lateral (
           select c.crashes from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
     ) c
), crashed as materialized (
    select h.execution_id
      from held h
     cross join lateral (
           select from durable.claim c where c.execution_id = h.execution_id for no key update
     ) c
     where h.crashes > 0
), cleared as (
    update durable.claim set crashes = 0
     where execution_id = any (array(select execution_id from crashed))
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, run_at, worker_id, seconds, kind, path, value, key)
    select execution_id, seq, attempt, durable.clock(), durable.clock() + make_interval(secs => delay), $20::uuid, 0, kind, path, value, key
      from held
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt, j.key) = (excluded.path, excluded.kind, excluded.attempt, excluded.key)
    returning execution_id, seq
), written as materialized (
    select h.* from (select h.*, (execution_id, seq) in (select execution_id, seq from recorded) as written from held h offset 0) h where h.written
), born as (
    insert into durable.execution (execution_id, shape_id, started_by, created_at, due_at, deadline_at, version, priority, status,
                                   workflow, queue, key, tags, parent_id, called, input)
    select child_id, shape_id, token, durable.clock(), durable.clock(), durable.clock() + make_interval(secs => timeout), version,
           priority, 'pending', workflow, queue,
           case when turn is not null and exists (select from durable.queue q where q.queue = h.queue and q.keyed) then turn else '' end, tags::jsonb, execution_id, kind = 'waiting', input::json
      from written h
     order by child_id
        on conflict (execution_id) do nothing
    returning execution_id, shape_id, priority, queue, key
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, durable.clock(), shape_id, priority, 0, false, queue, key from born
)
select n from written
