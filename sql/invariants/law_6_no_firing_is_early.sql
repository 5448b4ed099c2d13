-- Law 6: no execution was started for an instant that had not come.
--
-- Returns execution_id uuid, created_at timestamptz, instant timestamptz
select e.execution_id, e.created_at, (e.tags ->> 'durable.scheduled_for')::timestamptz as instant
  from durable.execution e
 where e.tags ? 'durable.scheduled_for' and e.created_at < (e.tags ->> 'durable.scheduled_for')::timestamptz
