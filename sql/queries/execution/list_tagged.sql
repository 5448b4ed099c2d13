-- List executions that bear the given tags, newest first, a page at a time.
--
-- $1 workflow text           null for all
-- $2 status text[]
-- $3 before timestamptz      the last row of the page before; null to begin
-- $4 before_id uuid
-- $5 limit int4
-- $6 tags text               a JSON object: every pair must be there
-- Returns execution_id uuid, name text, workflow text, version int4, queue text, priority int2, status text, tags text, created_at timestamptz, ended_at timestamptz, parent_id uuid, parent_name text
-- Locks   nothing
-- Index   execution_by_tags
with tagged as (
    select e.*, case when e.status = 'pending' and exists (select from durable.claim c where c.execution_id = e.execution_id)
                     then 'running' else e.status end as shown
      from durable.execution e
     where e.tags @> ($6::text)::jsonb and ($1::text is null or e.workflow = $1::text)
       and ($3::timestamptz is null or e.created_at < $3 or (e.created_at = $3 and e.execution_id > $4::uuid))
)
select t.execution_id, t.name, t.workflow, t.version, t.queue, t.priority, t.shown as status, t.tags::text as tags, t.created_at, t.ended_at,
       t.parent_id, p.name as parent_name
  from tagged t
  left join durable.execution p on p.execution_id = t.parent_id
 where t.shown = any ($2::text[])
 order by t.created_at desc, t.execution_id
 limit $5::int4
