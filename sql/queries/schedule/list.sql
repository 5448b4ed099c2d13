-- Schedules by name.
--
-- $1 workflow text           null for all
-- $2 after text              the last name of the page before; null to begin
-- $3 orphaned_after float8   seconds without a worker that declares it
-- $4 limit int4
-- Returns name text, revision int8, workflow text, version int4, rule json, input json, overlap text, catch_up text, catch_up_window float8, jitter float8, queue text, priority int2, tags text, declaration text, paused bool, paused_by text, paused_reason text, created_at timestamptz, created_by uuid, changed_at timestamptz, handled_at timestamptz, next_at timestamptz, due_at timestamptz, queued timestamptz[], skipped int8, last_at timestamptz, last_execution_id uuid, last_execution_name text, orphaned bool, now timestamptz
-- Locks   nothing
-- Index   schedule_pkey, schedule_declaration_pkey, execution_pkey
select s.name, s.revision, s.workflow, s.version, s.rule, s.input, s.overlap, s.catch_up, s.catch_up_window, s.jitter, s.queue, s.priority,
       s.tags::text as tags, s.declaration, s.paused, s.paused_by, s.paused_reason, s.created_at, s.created_by, s.changed_at, s.handled_at, s.next_at, s.due_at,
       s.queued, s.skipped, s.last_at, s.last_execution_id, e.name as last_execution_name,
       s.declaration is not null and not exists (
           select from durable.schedule_declaration d
            where d.name = any (array[s.name]) and d.declaration = s.declaration and d.last_seen_at >= durable.clock() - make_interval(secs => $3::float8)
       ) as orphaned, durable.clock() as now
  from durable.schedule s
  left join durable.execution e on e.execution_id = s.last_execution_id
 where ($1::text is null or s.workflow = $1::text) and ($2::text is null or s.name > $2::text)
 order by s.name
 limit $4::int4
