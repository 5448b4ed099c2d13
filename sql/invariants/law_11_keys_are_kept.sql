-- Law 11: no more of a key runs than the per_key of its queue says, of what was begun since it says so.
--
-- Returns queue text, key text, running int8, per_key int4
select c.queue, c.key, count(*) as running, q.per_key
  from durable.claim c
  join durable.queue q on q.queue = c.queue and c.claimed_at > q.declared_at
 group by c.queue, c.key, q.per_key
having count(*) > q.per_key
