-- End executions that have completed, each under its claim, together with the last record, if there is one: like `execution/finish`, of those
-- that leave nothing behind, neither a parent to be told nor an open wait. Sent again, it finds itself done. One that is to be undone does
-- not complete.
--
-- $1  execution_id uuid[]   in ascending order
-- $2  token uuid[]
-- $3  result_seq int4[]     the record that holds the result
-- $4  seq int4[]            the last record; null when there is none to write
-- $5  path text[]
-- $6  kind text[]
-- $7  attempt int4[]
-- $8  value json[]
-- $9  seconds float4[]
-- $10 worker_id uuid
-- $11 from_status text[]    the stored statuses from which it may end
-- Returns n int8, watchers uuid[]
-- Locks   rows of the executions in ascending order, then their claims
-- Index   execution_pkey, claim_pkey, journal_pkey
with locked as materialized (
    select g.*, e.released_by, e.status, e.watchers, e.undo, e.given_up
      from unnest($1::uuid[], $2::uuid[], durable.filled($3::int4[], $1::uuid[]), durable.filled($4::int4[], $1::uuid[]),
                  durable.filled($5::text[], $1::uuid[]), durable.filled($6::text[], $1::uuid[]), durable.filled($7::int4[], $1::uuid[]),
                  $8::json[], $9::float4[])
           with ordinality as g(execution_id, token, result_seq, seq, path, kind, attempt, value, seconds, n)
     cross join lateral (
           select e.released_by, e.status, e.watchers, e.undo, e.given_up from durable.execution e where e.execution_id = g.execution_id for no key update
     ) e
), held as materialized (
    select l.*
      from locked l
     cross join lateral (
           select from durable.claim c where c.execution_id = l.execution_id and c.token = l.token for update
     ) c
     where l.status = any ($11::text[]) and l.undo is null and not l.given_up
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value)
    select execution_id, seq, attempt, durable.clock(), $10::uuid, seconds, kind, path, value
      from held
     where seq is not null
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt) = (excluded.path, excluded.kind, excluded.attempt)
    returning execution_id, seq
), sure as materialized (
    select * from (select h.*, (execution_id, seq) in (select execution_id, seq from recorded) as written from held h offset 0) as answer
     where seq is null or written
), freed as (
    delete from durable.claim where execution_id = any (array(select execution_id from sure))
), changed as (
    update durable.execution e
       set status = 'completed', released_by = s.token, result_seq = s.result_seq, ended_at = durable.clock()
      from sure s
     where e.execution_id = any (array[s.execution_id])
    returning e.execution_id, e.workflow, e.created_at, e.ended_at
), listed as (
    insert into durable.ended (created_at, ended_at, execution_id, workflow, status)
    select created_at, ended_at, execution_id, workflow, 'completed' from changed
)
select n, watchers from sure
union all
select n, watchers from locked where released_by = token
