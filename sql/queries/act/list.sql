-- What people have done, the latest first, a page at a time: to one execution, or to all.
--
-- $1 execution_id uuid       null for all
-- $2 before timestamptz      the last row of the page before; null to begin
-- $3 before_id uuid
-- $4 before_operation uuid
-- $5 limit int4
-- Returns execution_id uuid, name text, workflow text, operation uuid, acted_at timestamptz, kind text, acted_by text, reason text, details text
-- Locks   nothing
-- Index   act_pkey, act_in_order, execution_pkey
select a.execution_id, e.name, e.workflow, a.operation, a.acted_at, a.kind, a.acted_by, a.reason, a.details::text as details
  from durable.act a
  join durable.execution e on e.execution_id = a.execution_id
 where ($1::uuid is null or a.execution_id = $1::uuid)
   and ($2::timestamptz is null or a.acted_at < $2 or (a.acted_at = $2 and (a.execution_id, a.operation) > ($3::uuid, $4::uuid)))
 order by a.acted_at desc, a.execution_id, a.operation
 limit $5::int4
