-- Append records, each under its claim. A record whose claim is gone is not written; one that is sent again is found written; one whose
-- place another has taken is refused.
-- A record shows that its execution does not kill workers: it clears the crashes counted so far.
--
-- $1  execution_id uuid[]   in ascending order
-- $2  token uuid[]
-- $3  seq int4[]
-- $4  path text[]
-- $5  kind text[]
-- $6  attempt int4[]
-- $7  value json[]
-- $8  error json[]
-- $9  delay float8[]        seconds until the next attempt, null for none
-- $10 seconds float4[]      how long the body ran
-- $11 target text[]        where a Goto leads, or the label of a chosen case
-- $12 data_seq int4[]      the record that holds the data of a step without a value
-- $13 key text[]           of an effect, which one it is
-- $14 worker_id uuid
-- Returns n int8
-- Locks   claim rows for key share, in ascending order: a takeover waits for the record, or the record finds the claim gone
-- Index   claim_pkey, journal_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], durable.filled($3::int4[], $1::uuid[]), durable.filled($4::text[], $1::uuid[]),
                         durable.filled($5::text[], $1::uuid[]), durable.filled($6::int4[], $1::uuid[]), $7::json[], $8::json[], $9::float8[], $10::float4[],
                         $11::text[], $12::int4[], $13::text[])
                  with ordinality as g(execution_id, token, seq, path, kind, attempt, value, error, delay, seconds, target, data_seq, key, n)
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
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, run_at, worker_id, seconds, kind, path, value, error, target, data_seq, key)
    select execution_id, seq, attempt, durable.clock(), durable.clock() + make_interval(secs => delay), $14::uuid, seconds, kind, path,
           value, error, target, data_seq, key
      from held
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt) = (excluded.path, excluded.kind, excluded.attempt) and j.key is not distinct from excluded.key
    returning execution_id, seq
)
select n
  from (select n, (execution_id, seq) in (select execution_id, seq from recorded) as written from held offset 0) as answer
 where written
