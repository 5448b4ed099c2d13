-- Set aside what was posted first: it cannot be delivered, and must not hold up the rest.
--
-- $1 refused text         why
-- Returns post_id int8, execution_id uuid, topic text
-- Locks   a row of posted
-- Index   posted_pkey
update durable.posted
   set refused = $1::text
 where post_id = (select min(post_id) from durable.posted where refused is null)
returning post_id, execution_id, topic
