-- Store the shapes of the definitions that a program brings, with the defaults of a start as they are now.
--
-- $1 shape_id int8[]     in ascending order
-- $2 workflow text[]
-- $3 version int4[]
-- $4 tree json[]
-- $5 queue text[]
-- $6 priority int2[]
-- $7 timeout float8[]    seconds from when an execution is due to its deadline; null for none
-- Returns nothing
-- Locks   the rows, in ascending order
-- Index   shape_pkey
insert into durable.shape (shape_id, workflow, version, tree, queue, priority, timeout, first_seen_at, last_seen_at)
select g.*, durable.clock(), durable.clock()
  from unnest($1::int8[], $2::text[], $3::int4[], $4::json[], $5::text[], $6::int2[], $7::float8[])
       as g(shape_id, workflow, version, tree, queue, priority, timeout)
    on conflict (shape_id) do update
   set queue = excluded.queue, priority = excluded.priority, timeout = excluded.timeout, last_seen_at = excluded.last_seen_at
