-- Have claims that were made before their queues had limits count against them. What is being moved at this moment is left out: it ends
-- soon, or is claimed anew.
--
-- $1 queue text[]   that are declared; those of them that have limits
-- Returns n int8
-- Locks   the claims, skip locked
-- Index   execution_pkey, claim_pkey
with uncounted as materialized (
    select c.execution_id, e.queue, e.key
      from durable.claim c
      join durable.execution e on e.execution_id = any (array[c.execution_id])
     where c.queue is null and e.queue = any (array(select q.queue from durable.queue q where q.queue = any ($1::text[]) and q.limited))
       for no key update of c skip locked
), counted as (
    update durable.claim c set queue = u.queue, key = u.key from uncounted u where c.execution_id = any (array[u.execution_id]) returning 1
)
select count(*) as n from counted
