-- Write down that a worker has ended gracefully: what it still holds (bodies that did not heed their cancellation) was not in
-- flight in a crash.
--
-- $1 worker_id uuid
-- Returns worker_id uuid
-- Locks   the worker's own row
-- Index   worker_pkey
update durable.worker set signed_off = true where worker_id = $1::uuid returning worker_id
