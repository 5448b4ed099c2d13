-- When to look again at queues of whose limits a claim came short: whether something is ready in them, and when the first permits leave
-- the window of a rate that is used up.
--
-- $1 queue text[]
-- $2 shape_id int8[]   the shapes that this worker may be able to go on with
-- $3 known int8[]      as in `claim/take`
-- $4 own int8[]
-- Returns queue text, more bool, held bool, others bool, next_in float8
--         held: something is held that this worker can go on with; others: something is ready, whoever can go on with it
-- Locks   nothing
-- Index   queue_pkey, ready_in_order, permit_by_time
select q.queue,
       not q.paused and exists (select from durable.ready r where r.queue = q.queue and r.held_by is null and r.shape_id = any ($2::int8[])) as more,
       not q.paused and exists (select from durable.ready r where r.queue = q.queue and r.shape_id = any ($2::int8[]) and r.held_by <> '{}'
                                  and (r.shape_id = any ($3::int8[]) or not r.held_by && $4::int8[])) as held,
       exists (select from durable.ready r where r.queue = q.queue and r.held_by is null) as others,
       case when not q.paused and (select sum(p.count) from durable.permit p where p.queue = q.queue) >= q.rate_limit
            then greatest(extract(epoch from (select min(p.granted_at) from durable.permit p where p.queue = q.queue)
                                  + make_interval(secs => q.rate_seconds) - durable.clock())::float8, 0)
       end as next_in
  from durable.queue q
 where q.queue = any ($1::text[]) and q.limited
