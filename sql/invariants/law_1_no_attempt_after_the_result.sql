-- Law 1: nothing is tried again after its result was recorded, and attempts are counted without gaps or repeats.
--
-- Returns execution_id uuid, path text, attempt int4
select later.execution_id, later.path, later.attempt
  from durable.journal done
  join durable.journal later on later.execution_id = done.execution_id and later.path = done.path and later.seq > done.seq
 where done.kind = 'completed'
union all
select execution_id, path, max(attempt)
  from durable.journal
 group by execution_id, path
having count(*) <> count(distinct attempt) or max(attempt) <> count(*)
