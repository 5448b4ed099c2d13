-- Which of the claims that a worker believes it holds are gone: cancelled, or taken over.
--
-- $1 execution_id uuid[]
-- $2 token uuid[]
-- Returns execution_id uuid
-- Locks   nothing
-- Index   claim_pkey
select g.execution_id
  from unnest($1::uuid[], $2::uuid[]) as g(execution_id, token)
 where not exists (select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token)
