-- Register a worker under its identity for this boot. Repeating it changes nothing but the lease.
--
-- $1 worker_id uuid
-- $2 lease float8         seconds
-- $3 host text
-- $4 pid int4
-- Returns worker_id uuid
-- Locks   the worker's own row
-- Index   worker_pkey
insert into durable.worker (worker_id, lease_expires_at, started_at, host, pid)
values ($1::uuid, durable.clock() + make_interval(secs => $2::float8), durable.clock(), $3::text, $4::int4)
    on conflict (worker_id) do update set lease_expires_at = excluded.lease_expires_at
returning worker_id
