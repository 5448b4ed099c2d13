-- What became of claims that a worker believes it holds: gone (cancelled, or taken over), or to be undone, or paused, or that got a message which
-- it has not seen.
--
-- $1 execution_id uuid[]
-- $2 token uuid[]
-- $3 seen int4[]         the latest message that it knows of
-- Returns execution_id uuid, gone bool, undo text, mail int4, paused bool
--         mail is the number of its latest message
-- Locks   nothing
-- Index   claim_pkey, execution_pkey
select g.execution_id, c.execution_id is null as gone, coalesce(e.undo, case when e.given_up then 'its parent waits for it no more' end) as undo, e.mail,
       e.paused and e.undo is null and not e.given_up and e.status <> 'compensating' as paused
  from unnest($1::uuid[], $2::uuid[], $3::int4[]) as g(execution_id, token, seen)
  left join lateral (
       select c.execution_id from durable.claim c where c.execution_id = g.execution_id and c.token = g.token offset 0
  ) c on true
  left join lateral (
       select e.undo, e.given_up, e.mail, e.paused, e.status from durable.execution e where e.execution_id = g.execution_id offset 0
  ) e on true
 where c.execution_id is null or e.undo is not null or e.given_up or e.mail > g.seen or e.paused
