-- Law 11: no more of a queue runs than its global_concurrency says, of what was begun since it says so.
--
-- Returns queue text, running int8, global_concurrency int4
select c.queue, count(*) as running, q.global_concurrency
  from durable.claim c
  join durable.queue q on q.queue = c.queue and c.claimed_at > q.declared_at
 group by c.queue, q.global_concurrency
having count(*) > q.global_concurrency
