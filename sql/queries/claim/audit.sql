-- The claims of a worker as the database knows them, and those of workers that are forgotten (a claim may be committed while
-- its worker is).
--
-- $1 owner uuid
-- Returns execution_id uuid, token uuid, owner uuid
-- Locks   nothing
-- Index   claim_by_owner, worker_pkey
select c.execution_id, c.token, c.owner
  from durable.claim c
 where c.owner = $1::uuid or not exists (select from durable.worker w where w.worker_id = c.owner)
