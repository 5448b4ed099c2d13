-- Declare a worker dead whose lease has lapsed, so that it cannot renew any more. No row: it has renewed meanwhile, or is gone. Several
-- may do it; the first one is who tells of it.
--
-- $1 worker_id uuid
-- Returns first bool, signed_off bool, suspects_in_flight bool
-- Locks   the worker's row
-- Index   worker_pkey, claim_by_owner
with lapsed as materialized (
    select worker_id, dead, signed_off from durable.worker
     where worker_id = $1::uuid and (dead or lease_expires_at < durable.clock())
       for update
), buried as (
    update durable.worker set dead = true
     where worker_id = (select worker_id from lapsed where not dead)
)
select not dead as first, signed_off, exists (select from durable.claim c where c.owner = $1::uuid and c.crashes > 0) as suspects_in_flight
  from lapsed
