-- Every shape that was ever stored for some workflows, to be judged against the code at hand; and how many there are of all.
--
-- $1 workflow text[]
-- Returns shape_id int8, workflow text, version int4, tree json, shapes int8
-- Locks   nothing
-- Index   none: the table has a row for each shape
select shape_id, workflow, version, tree, (select count(*) from durable.shape) as shapes from durable.shape where workflow = any ($1::text[]) order by first_seen_at, shape_id
