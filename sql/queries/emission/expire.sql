-- Record that nothing that matches was emitted in time, each under its claim, and stop to wait for it. Sent again, it finds itself done.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- $3 seq int4[]
-- $4 path text[]
-- $5 attempt int4[]
-- $6 error json[]          null when the wait has another answer for that
-- $7 key text[]
-- $8 subscribed int4[]     the record that has begun to wait
-- $9 worker_id uuid
-- Returns n int8
-- Locks   claim rows for key share, in ascending order; then rows of subscription
-- Index   claim_pkey, journal_pkey, subscription_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::text[], $5::int4[], $6::json[], $7::text[], $8::int4[])
                  with ordinality as g(execution_id, token, seq, path, attempt, error, key, subscribed, n)
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
), unsubscribed as (
    delete from durable.subscription s using held h where s.execution_id = any (array[h.execution_id]) and s.seq = h.subscribed
)
select n
  from (select n, (execution_id, seq) in (select execution_id, seq from recorded) as written from held offset 0) as answer
 where written
