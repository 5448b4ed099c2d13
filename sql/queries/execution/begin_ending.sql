-- Begin to end executions that have failed, or are to be undone, each under its claim: why is recorded, and from now on neither a
-- deadline nor a cancel ends them otherwise. Of one that was cancelled the children are doomed. Sent again, it finds itself done.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- $3 seq int4[]
-- $4 error json[]          why
-- $5 worker_id uuid
-- $6 from_status text[]    the stored statuses from which it may begin
-- Returns n int8
-- Locks   execution rows in ascending order, then their claims for key share
-- Index   execution_pkey, claim_pkey, journal_pkey, execution_children, doomed_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::json[]) with ordinality as g(execution_id, token, seq, error, n)
), locked as materialized (
    select g.*, e.status, e.undo is not null or e.given_up as undone
      from given g
     cross join lateral (
           select e.status, e.undo, e.given_up from durable.execution e where e.execution_id = g.execution_id for no key update
     ) e
), held as materialized (
    select l.*, c.crashes
      from locked l
     cross join lateral (
           select c.crashes from durable.claim c where c.execution_id = l.execution_id and c.token = l.token for key share
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
), changed as (
    update durable.execution
       set status = 'compensating', deadline_at = null, undo = null
     where execution_id = any (array(select execution_id from held where status = any ($6::text[])))
), doomed as (
    insert into durable.doomed (execution_id, doomed_at, undo, reason)
    select c.execution_id, durable.clock(), true, 'its parent was cancelled, to be undone'
      from durable.execution c
     where c.parent_id = any (array(select execution_id from held where undone and status = any ($6::text[]))) and c.ended_at is null
     order by c.execution_id
        on conflict (execution_id) do nothing
), recorded as (
    insert into durable.journal (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, error)
    select execution_id, seq, 0, durable.clock(), $5::uuid, 0, 'failing', '', error from held where status = any ($6::text[])
        on conflict (execution_id, seq) do nothing
)
select n from held where status = any ($6::text[]) or status = 'compensating'
