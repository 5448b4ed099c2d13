-- Declare a worker dead whose lease has lapsed, so that it cannot renew any more. No row: it has renewed meanwhile, or is gone.
--
-- $1 worker_id uuid
-- Returns signed_off bool, suspects_in_flight bool
-- Locks   the worker's row
-- Index   worker_pkey, claim_by_owner
with buried as (
    update durable.worker set dead = true
     where worker_id = $1::uuid and (dead or lease_expires_at < durable.clock())
    returning signed_off
)
select signed_off, exists (select from durable.claim c where c.owner = $1::uuid and c.crashes > 0) as suspects_in_flight
  from buried
