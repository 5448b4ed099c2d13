-- Store the shapes of the definitions that a program brings. Repeating it changes nothing.
--
-- $1 shape_id int8[]   in ascending order
-- $2 workflow text[]
-- $3 version int4[]
-- $4 tree json[]
-- Returns nothing
-- Locks   the new rows
-- Index   shape_pkey
insert into durable.shape (shape_id, workflow, version, tree, first_seen_at)
select g.*, durable.clock() from unnest($1::int8[], $2::text[], $3::int4[], $4::json[]) as g(shape_id, workflow, version, tree)
    on conflict (shape_id) do nothing
