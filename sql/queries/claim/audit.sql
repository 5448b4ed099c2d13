-- The claims of a worker as the database knows them, and those of workers that are forgotten (a claim may be committed while
-- its worker is); whether one is to be undone, or paused, and the number of its latest message.
--
-- $1 owner uuid
-- Returns execution_id uuid, token uuid, owner uuid, undo text, mail int4, paused bool
-- Locks   nothing
-- Index   claim_by_owner, worker_pkey, execution_pkey
select c.execution_id, c.token, c.owner, e.undo, e.mail, e.paused and e.undo is null and not e.given_up and e.status <> 'compensating' as paused
  from durable.claim c
  left join durable.execution e on e.execution_id = c.execution_id
 where c.owner = $1::uuid or not exists (select from durable.worker w where w.worker_id = c.owner)
