-- Record that children did not end in time, each under the claim of its parent, and give them up: they complete no more, and are
-- doomed. One that has ended meanwhile has sent its message. Sent again, it finds itself done.
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
-- Returns n int8, answered bool
--         answered: nothing was recorded, for the child has ended
-- Locks   rows of the children in ascending order; then claim rows for key share, in ascending order
-- Index   execution_pkey, claim_pkey, journal_pkey, doomed_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::text[], $5::int4[], $6::json[], $7::text[], $8::uuid[])
                  with ordinality as g(execution_id, token, seq, path, attempt, error, key, child_id, n)
), children as materialized (
    select g.*, e.over
      from (select * from given order by child_id) g
     cross join lateral (
           select e.ended_at is not null as over from durable.execution e where e.execution_id = g.child_id for no key update
     ) e
), held as materialized (
    select g.*
      from (select * from children order by execution_id) g
     cross join lateral (
           select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
     ) c
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, error, key)
    select execution_id, seq, attempt, durable.clock(), $9::uuid, 0, 'expired', path, error, key
      from held
     where not over
        or exists (select from durable.journal j where j.execution_id = held.execution_id and j.seq = held.seq and j.kind = 'expired' offset 0)
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt, j.key) = (excluded.path, excluded.kind, excluded.attempt, excluded.key)
    returning execution_id, seq
), lost as materialized (
    select child_id from held where not over and (execution_id, seq) in (select execution_id, seq from recorded)
), given_up as (
    update durable.execution set given_up = true where execution_id = any (array(select child_id from lost))
), doomed as (
    insert into durable.doomed (execution_id, doomed_at, undo, reason)
    select child_id, durable.clock(), true, 'its parent waits for it no more' from lost order by child_id
        on conflict (execution_id) do nothing
)
select n, over and not written as answered
  from (select n, over, (execution_id, seq) in (select execution_id, seq from recorded) as written from held offset 0) as answer
 where written or over
