-- Record waits for people, each under its claim, together with what is asked. Like `journal/record` otherwise; sent again, it finds
-- itself done.
--
-- $1  execution_id uuid[]   in ascending order
-- $2  token uuid[]
-- $3  seq int4[]
-- $4  path text[]
-- $5  attempt int4[]
-- $6  delay float8[]        seconds until nobody waits for the answer any more, null for none
-- $7  key text[]
-- $8  name text[]
-- $9  kind text[]
-- $10 remind_every float8[] seconds, null for no reminders
-- $11 request json[]
-- $12 worker_id uuid
-- Returns n int8
-- Locks   claim rows for key share, in ascending order: a takeover waits for the record, or the record finds the claim gone
-- Index   claim_pkey, journal_pkey, execution_pkey, input_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::text[], $5::int4[], $6::float8[], $7::text[], $8::text[], $9::text[], $10::float8[],
                         $11::json[])
                  with ordinality as g(execution_id, token, seq, path, attempt, delay, key, name, kind, remind_every, request, n)
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
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, run_at, worker_id, seconds, kind, path, key)
    select execution_id, seq, attempt, durable.clock(), durable.clock() + make_interval(secs => delay), $12::uuid, 0, 'waiting', path, key
      from held
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt, j.key) = (excluded.path, excluded.kind, excluded.attempt, excluded.key)
    returning execution_id, seq
), written as materialized (
    select h.* from (select h.*, (execution_id, seq) in (select execution_id, seq from recorded) as written from held h offset 0) h where h.written
), asked as (
    insert into durable.input (execution_id, seq, requested_at, due_at, remind_at, remind_every, name, kind, workflow, path, request)
    select h.execution_id, h.seq, durable.clock(), durable.clock() + make_interval(secs => delay), durable.clock() + make_interval(secs => remind_every),
           make_interval(secs => remind_every), h.name, h.kind, e.workflow, h.path, h.request
      from written h
     cross join lateral (select e.workflow from durable.execution e where e.execution_id = h.execution_id offset 0) e
        on conflict (execution_id, seq) do nothing
)
select n from written
