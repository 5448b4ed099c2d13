-- What became of claims that a worker believes it holds: gone (cancelled, or taken over), or to be undone.
--
-- $1 execution_id uuid[]
-- $2 token uuid[]
-- Returns execution_id uuid, gone bool, undo text
-- Locks   nothing
-- Index   claim_pkey, execution_pkey
select g.execution_id, c.execution_id is null as gone, e.undo
  from unnest($1::uuid[], $2::uuid[]) as g(execution_id, token)
  left join lateral (
       select c.execution_id from durable.claim c where c.execution_id = g.execution_id and c.token = g.token offset 0
  ) c on true
  left join lateral (
       select e.undo from durable.execution e where e.execution_id = g.execution_id offset 0
  ) e on true
 where c.execution_id is null or e.undo is not null
