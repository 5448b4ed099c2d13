-- The claims of a worker as the database knows them, and those of workers that are forgotten (a claim may be committed while
-- its worker is); and whether one is to be undone.
--
-- $1 owner uuid
-- Returns execution_id uuid, token uuid, owner uuid, undo text
-- Locks   nothing
-- Index   claim_by_owner, worker_pkey, execution_pkey
select c.execution_id, c.token, c.owner, e.undo
  from durable.claim c
  left join durable.execution e on e.execution_id = c.execution_id
 where c.owner = $1::uuid or not exists (select from durable.worker w where w.worker_id = c.owner)
