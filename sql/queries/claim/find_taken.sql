-- What a claim took whose reply was lost: the same rows that it would have returned, but that nobody knows any more since when they were
-- ready.
--
-- $1 owner uuid
-- $2 token uuid
-- Returns execution_id uuid, name text, shape_id int8, queue text, input json, tags text, crashes int2, begun bool, undo text, mail int4, parent_id uuid, called bool, held_by int8[], deadline_in float8, parked bool, ready_at timestamptz, waited float8, journal text, messages text
-- Locks   nothing
-- Index   claim_by_owner, execution_pkey
select c.execution_id, e.name, e.shape_id, e.queue, e.input, e.tags::text as tags, c.crashes, true as begun, e.undo, e.mail, e.parent_id, e.called, null::int8[] as held_by,
       extract(epoch from e.deadline_at - durable.clock())::float8 as deadline_in, false as parked, null::timestamptz as ready_at, null::float8 as waited,
       null::text as journal, null::text as messages
  from durable.claim c
  join durable.execution e on e.execution_id = c.execution_id
 where c.owner = $1::uuid and c.token = $2::uuid
