-- Forget a worker that holds nothing any more.
--
-- $1 worker_id uuid
-- Returns worker_id uuid
-- Locks   the worker's row
-- Index   worker_pkey, claim_by_owner
delete from durable.worker w
 where w.worker_id = $1::uuid and not exists (select from durable.claim c where c.owner = w.worker_id)
returning w.worker_id
