-- Law 1: compensations are recorded in the opposite order of the steps that they undo, and only for steps that are recorded.
-- A compensation stands inside its step: `book_flight/cancel_flight`. Steps that were begun and not completed come first.
-- What an ending takes back of what steps have asked for expires, and is no compensation.
--
-- Returns execution_id uuid, path text
with failing as (
    select execution_id, seq from durable.journal where kind = 'failing'
), undone as (
    select j.execution_id, j.path, min(j.seq) as seq, max(step.seq) filter (where step.kind = 'completed') as step_seq,
           count(step.seq) as records
      from durable.journal j
      join failing f on f.execution_id = j.execution_id and f.seq < j.seq
      left join durable.journal step on step.execution_id = j.execution_id and step.path = left(j.path, length(j.path) - strpos(reverse(j.path), '/'))
     where strpos(j.path, '/') > 0 and j.kind <> 'expired'
     group by j.execution_id, j.path
)
select execution_id, path from undone where records = 0
union all
select later.execution_id, later.path
  from undone earlier
  join undone later on later.execution_id = earlier.execution_id and later.seq > earlier.seq
 where later.step_seq > earlier.step_seq or (later.step_seq is null and earlier.step_seq is not null)
