-- Record that children did not end in time, each under the claim of its parent, and doom them. Sent again, it finds itself done.
--
-- $1 execution_id uuid[]   of the parents, in ascending order
-- $2 token uuid[]
-- $3 seq int4[]
-- $4 path text[]
-- $5 attempt int4[]
-- $6 error json[]          null when the wait has another answer for that
-- $7 key text[]
-- $8 child_id uuid[]
-- $9 worker_id uuid
-- Returns n int8
-- Locks   claim rows for key share, in ascending order
-- Index   claim_pkey, journal_pkey, doomed_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::text[], $5::int4[], $6::json[], $7::text[], $8::uuid[])
                  with ordinality as g(execution_id, token, seq, path, attempt, error, key, child_id, n)
), held as materialized (
    select g.*
      from given g
     cross join lateral (
           select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
     ) c
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, error, key)
    select execution_id, seq, attempt, durable.clock(), $9::uuid, 0, 'expired', path, error, key
      from held
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt, j.key) = (excluded.path, excluded.kind, excluded.attempt, excluded.key)
    returning execution_id, seq
), doomed as (
    insert into durable.doomed (execution_id, doomed_at, undo, reason)
    select child_id, durable.clock(), true, 'it did not end within the timeout of its call'
      from held
     where (execution_id, seq) in (select execution_id, seq from recorded)
     order by child_id
        on conflict (execution_id) do nothing
)
select n
  from (select n, (execution_id, seq) in (select execution_id, seq from recorded) as written from held offset 0) as answer
 where written
