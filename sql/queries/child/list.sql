-- The children of an execution, in the order of their ids, a page at a time.
--
-- $1 parent_id uuid
-- $2 after_id uuid         the last of the page before; null to begin
-- $3 limit int4
-- Returns execution_id uuid, name text, workflow text, version int4, queue text, priority int2, status text, tags text, created_at timestamptz, ended_at timestamptz, parent_id uuid, parent_name text
-- Locks   nothing
-- Index   execution_children, execution_pkey, claim_pkey
select e.execution_id, e.name, e.workflow, e.version, e.queue, e.priority,
       case when e.status = 'pending' and exists (select from durable.claim c where c.execution_id = e.execution_id) then 'running' else e.status end as status,
       e.tags::text as tags, e.created_at, e.ended_at, e.parent_id, p.name as parent_name
  from durable.execution e
  join durable.execution p on p.execution_id = e.parent_id
 where e.parent_id = $1::uuid and ($2::uuid is null or e.execution_id > $2::uuid)
 order by e.execution_id
 limit $3::int4
