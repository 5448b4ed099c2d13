-- Go on with executions under the shape of changed code, each under its claim: workers that know only the old shape do not
-- take them any more. Repeating it changes nothing.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- $3 shape_id int8[]
-- Returns n int8
-- Locks   execution rows in ascending order, then their claims for key share
-- Index   execution_pkey, claim_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int8[]) with ordinality as g(execution_id, token, shape_id, n)
), locked as materialized (
    select g.*
      from given g
     cross join lateral (
           select from durable.execution e where e.execution_id = g.execution_id for no key update
     ) e
), held as materialized (
    select l.*
      from locked l
     cross join lateral (
           select from durable.claim c where c.execution_id = l.execution_id and c.token = l.token for key share
     ) c
), changed as (
    update durable.execution e
       set shape_id = h.shape_id
      from held h
     where e.execution_id = any (array[h.execution_id])
)
select n from held
