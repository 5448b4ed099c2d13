-- Renew a worker's lease, name the workers whose leases have lapsed, and say how many shapes are stored: when there are more, other
-- code has come. No row for oneself: this worker was declared dead.
--
-- $1 worker_id uuid
-- $2 lease float8         seconds
-- Returns alive bool, lapsed uuid[], shapes int8
-- Locks   the worker's own row
-- Index   worker_pkey
with renewed as (
    update durable.worker set lease_expires_at = durable.clock() + make_interval(secs => $2::float8)
     where worker_id = $1::uuid and not dead
    returning worker_id
)
select exists (select from renewed) as alive,
       array(select worker_id from durable.worker where (dead or lease_expires_at < durable.clock()) and worker_id <> $1::uuid) as lapsed,
       (select count(*) from durable.shape) as shapes
