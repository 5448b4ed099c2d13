-- Doom children that nobody waits for any more, each under the claim of its parent.
--
-- $1 execution_id uuid[]   of the parents, in ascending order
-- $2 token uuid[]
-- $3 children text[]       each an array: {...}
-- $4 reason text
-- Returns n int8
-- Locks   claim rows for key share, in ascending order
-- Index   claim_pkey, doomed_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::text[]) with ordinality as g(execution_id, token, children, n)
), held as materialized (
    select g.*
      from given g
     cross join lateral (
           select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
     ) c
), doomed as (
    insert into durable.doomed (execution_id, doomed_at, undo, reason)
    select d.child, durable.clock(), true, $4::text from (select unnest(children::uuid[]) as child from held) d order by d.child
        on conflict (execution_id) do nothing
)
select n from held
