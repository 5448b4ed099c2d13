-- Append records, each under its claim: like `journal/record`, of those that have nothing but a value, if anything, and not those of executions
-- that were in flight in a crash since their last one. A record whose claim is gone is not written; one that is sent again is found written; one
-- whose place another has taken is refused.
--
-- $1  execution_id uuid[]   in ascending order
-- $2  token uuid[]
-- $3  seq int4[]
-- $4  path text[]
-- $5  kind text[]
-- $6  attempt int4[]
-- $7  value json[]
-- $8  seconds float4[]      how long the body ran
-- $9  key text[]            of an effect, which one it is
-- $10 worker_id uuid
-- Returns n int8
-- Locks   claim rows for key share, in ascending order: a takeover waits for the record, or the record finds the claim gone
-- Index   claim_pkey, journal_pkey
with held as materialized (
    select g.*
      from unnest($1::uuid[], $2::uuid[], durable.filled($3::int4[], $1::uuid[]), durable.filled($4::text[], $1::uuid[]),
                  durable.filled($5::text[], $1::uuid[]), durable.filled($6::int4[], $1::uuid[]), $7::json[], $8::float4[],
                  durable.filled($9::text[], $1::uuid[]))
           with ordinality as g(execution_id, token, seq, path, kind, attempt, value, seconds, key, n)
     cross join lateral (
           select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token and c.crashes = 0 for key share
     ) c
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value, key)
    select execution_id, seq, attempt, durable.clock(), $10::uuid, seconds, kind, path, value, key
      from held
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt) = (excluded.path, excluded.kind, excluded.attempt) and j.key is not distinct from excluded.key
    returning execution_id, seq
)
select n
  from (select n, (execution_id, seq) in (select execution_id, seq from recorded) as written from held offset 0) as answer
 where written
