-- End executions, each under its claim, together with the last record, if there is one. Sent again, it finds itself done. One that is
-- to be undone does not complete.
--
-- $1  execution_id uuid[]   in ascending order
-- $2  token uuid[]
-- $3  status text[]         the terminal status
-- $4  result_seq int4[]     the record that holds the result; null without one
-- $5  failure json[]        why it failed; null otherwise
-- $6  seq int4[]            the last record; null when there is none to write
-- $7  path text[]
-- $8  kind text[]
-- $9  attempt int4[]
-- $10 value json[]
-- $11 error json[]
-- $12 seconds float4[]
-- $13 reason text[]         that of a cancel; null otherwise
-- $14 worker_id uuid
-- $15 from_status text[]    the stored statuses from which it may end
-- Returns n int8, watchers uuid[]
-- Locks   execution rows in ascending order, then their claims
-- Index   execution_pkey, claim_pkey, journal_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::int4[], $5::json[], $6::int4[], $7::text[], $8::text[], $9::int4[], $10::json[],
                         $11::json[], $12::float4[], $13::text[])
                  with ordinality as g(execution_id, token, status, result_seq, failure, seq, path, kind, attempt, value, error, seconds, reason, n)
), locked as materialized (
    select g.*, e.released_by, e.status as stored_status, e.watchers, e.undo
      from given g
     cross join lateral (
           select e.released_by, e.status, e.watchers, e.undo from durable.execution e where e.execution_id = g.execution_id for no key update
     ) e
), held as materialized (
    select l.*
      from locked l
     cross join lateral (
           select from durable.claim c where c.execution_id = l.execution_id and c.token = l.token for update
     ) c
     where l.stored_status = any ($15::text[]) and (l.undo is null or l.status <> 'completed')
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value, error)
    select execution_id, seq, attempt, durable.clock(), $14::uuid, seconds, kind, path,
           value, error
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
       set status = h.status, released_by = h.token, result_seq = h.result_seq, error = h.failure, reason = h.reason, ended_at = durable.clock()
      from sure h
     where e.execution_id = any (array[h.execution_id])
    returning e.execution_id, e.workflow, e.status, e.created_at, e.ended_at
), listed as (
    insert into durable.ended (created_at, ended_at, execution_id, workflow, status)
    select created_at, ended_at, execution_id, workflow, status from changed
)
select n, watchers from sure
union all
select n, watchers from locked where released_by = token
