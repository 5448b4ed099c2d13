-- The queues that something is in, that workflows name, or that were declared or paused; what is ready in them, and what runs.
--
-- Returns queue text, ready int8, held int8, running int8, oldest_ready_at timestamptz, oldest_seconds float8, global_concurrency int4, rate_limit int4, rate_seconds float8, per_key int4, max_depth int4, keyed bool, paused bool, paused_at timestamptz, pause_reason text, paused_by text
-- Locks   nothing
-- Index   claim_pkey, execution_pkey
with ready as materialized (
    select queue, count(*) filter (where held_by is null) as ready, count(*) filter (where held_by is not null) as held,
           min(ready_at) filter (where held_by is null) as oldest
      from durable.ready
     group by queue
), running as materialized (
    select e.queue, count(*) as running from durable.claim c join durable.execution e on e.execution_id = c.execution_id group by e.queue
), named as (
    select queue from ready union select queue from running union select queue from durable.queue union select queue from durable.shape
)
select n.queue, coalesce(r.ready, 0) as ready, coalesce(r.held, 0) as held, coalesce(c.running, 0) as running, r.oldest as oldest_ready_at, extract(epoch from durable.clock() - r.oldest)::float8 as oldest_seconds,
       q.global_concurrency, q.rate_limit, q.rate_seconds, q.per_key, q.max_depth, coalesce(q.keyed, false) as keyed, coalesce(q.paused, false) as paused,
       q.paused_at, q.pause_reason, q.paused_by
  from named n
  left join ready r on r.queue = n.queue
  left join running c on c.queue = n.queue
  left join durable.queue q on q.queue = n.queue
 order by n.queue
