-- Lock an execution, and its parent, the first statement of a transaction that acts on it: from then on it stays in its place.
--
-- $1 execution_id uuid
-- Returns workflow text, status text, name text, undo text
-- Locks   the rows of both, in ascending order
-- Index   execution_pkey
with family as materialized (
    select f.execution_id
      from durable.execution e
     cross join lateral unnest(array[e.execution_id, e.parent_id]) as f(execution_id)
     where e.execution_id = $1::uuid and f.execution_id is not null
     order by f.execution_id
), kin as materialized (
    select e.*
      from family f
     cross join lateral (
           select e.execution_id, e.workflow, e.status, e.name, e.undo from durable.execution e where e.execution_id = f.execution_id for no key update
     ) e
)
select workflow, status, name, undo from kin where execution_id = $1::uuid
