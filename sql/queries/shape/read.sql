-- Every shape that was ever stored for some workflows, to be judged against the code at hand.
--
-- $1 workflow text[]
-- Returns shape_id int8, workflow text, version int4, tree json
-- Locks   nothing
-- Index   none: the table has a row for each shape
select shape_id, workflow, version, tree from durable.shape where workflow = any ($1::text[]) order by first_seen_at, shape_id
