-- Workers whose lease has lapsed and whom nobody has buried, and owners of claims that are no workers.
--
-- $1 seconds float8   since the lease has lapsed
-- Returns worker_id uuid, host text, pid int4, seconds float8, claims int8
-- Locks   nothing
-- Index   claim_by_owner
select w.worker_id, w.host, w.pid, extract(epoch from durable.clock() - w.lease_expires_at)::float8 as seconds,
       (select count(*) from durable.claim c where c.owner = w.worker_id) as claims
  from durable.worker w
 where w.lease_expires_at < durable.clock() - make_interval(secs => $1::float8)
union all
select c.owner, null, null, extract(epoch from durable.clock() - min(c.claimed_at))::float8, count(*)
  from durable.claim c
 where not exists (select from durable.worker w where w.worker_id = c.owner)
 group by c.owner
