-- Record that nobody has answered in time, each under its claim, and close what was asked; unless somebody has answered meanwhile.
-- Sent again, it finds itself done.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- $3 seq int4[]
-- $4 path text[]
-- $5 attempt int4[]
-- $6 error json[]          null when the wait has another answer for that
-- $7 key text[]
-- $8 asked int4[]          the record that has asked
-- $9 worker_id uuid
-- Returns n int8, answered bool
--         answered: nothing was recorded, for there is an answer
-- Locks   claim rows for key share, in ascending order; then input rows
-- Index   claim_pkey, journal_pkey, input_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::text[], $5::int4[], $6::json[], $7::text[], $8::int4[])
                  with ordinality as g(execution_id, token, seq, path, attempt, error, key, asked, n)
), held as materialized (
    select g.*
      from given g
     cross join lateral (
           select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
     ) c
), asking as materialized (
    select h.*, i.status
      from held h
     cross join lateral (
           select i.status from durable.input i where i.execution_id = h.execution_id and i.seq = h.asked for update
     ) i
), closed as (
    update durable.input i
       set status = 'expired', closed_at = durable.clock(), remind_at = null
      from asking a
     where i.execution_id = any (array[a.execution_id]) and i.seq = a.asked and a.status = 'pending'
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, error, key)
    select execution_id, seq, attempt, durable.clock(), $9::uuid, 0, 'expired', path, error, key
      from asking
     where status <> 'answered'
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt, j.key) = (excluded.path, excluded.kind, excluded.attempt, excluded.key)
    returning execution_id, seq
)
select n, status = 'answered' as answered
  from (select n, status, (execution_id, seq) in (select execution_id, seq from recorded) as written from asking offset 0) as answer
 where written or status = 'answered'
