-- The workers that are known, and what they run.
--
-- Returns worker_id uuid, host text, pid int4, started_at timestamptz, lease_in float8, dead bool, signed_off bool, running int8
-- Locks   nothing
-- Index   claim_by_owner
select w.worker_id, w.host, w.pid, w.started_at, extract(epoch from w.lease_expires_at - durable.clock())::float8 as lease_in, w.dead, w.signed_off,
       (select count(*) from durable.claim c where c.owner = w.worker_id) as running
  from durable.worker w
 order by w.started_at, w.worker_id
