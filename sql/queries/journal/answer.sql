-- Record what waits were given, each under its claim, together with the consumption of the messages that it came in. Like
-- `journal/record` otherwise; sent again, it finds itself done.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- $3 seq int4[]
-- $4 path text[]
-- $5 attempt int4[]
-- $6 value json[]
-- $7 key text[]
-- $8 numbers text[]        of the messages, each as an array: {1,2}
-- $9 error json[]          of a child that has failed; null otherwise
-- $10 worker_id uuid
-- Returns n int8
-- Locks   claim rows for key share, in ascending order: a takeover waits for the record, or the record finds the claim gone
-- Index   claim_pkey, journal_pkey, message_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::text[], $5::int4[], $6::json[], $7::text[], $8::text[], $9::json[])
                  with ordinality as g(execution_id, token, seq, path, attempt, value, key, numbers, error, n)
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
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value, error, key)
    select execution_id, seq, attempt, durable.clock(), $10::uuid, 0, case when error is null then 'answered' else 'tried' end, path, value, error, key
      from held
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt, j.key) = (excluded.path, excluded.kind, excluded.attempt, excluded.key)
    returning execution_id, seq
), consumed as (
    update durable.message m
       set consumed_by = h.seq, payload = null
      from (select execution_id, seq, unnest(numbers::int4[]) as number from held where (execution_id, seq) in (select execution_id, seq from recorded)) h
     where m.execution_id = any (array[h.execution_id]) and m.number = h.number and m.consumed_by is null
)
select n
  from (select n, (execution_id, seq) in (select execution_id, seq from recorded) as written from held offset 0) as answer
 where written
