-- Take the reminders that are due: each is whoever's takes it first. What was missed meanwhile is one reminder.
--
-- $1 limit int4
-- Returns execution_id uuid, execution_name text, seq int4, name text, kind text, workflow text, path text, status text, requested_at timestamptz, due_at timestamptz, closed_at timestamptz, answered_by text, reminded int4, request json, answer json
-- Locks   input rows, skip locked
-- Index   input_reminders, input_pkey, execution_pkey
with due as materialized (
    select i.execution_id, i.seq
      from durable.input i
     where i.status = 'pending' and i.remind_at <= durable.clock()
     order by i.remind_at
     limit $1::int4
       for update skip locked
), moved as (
    update durable.input i
       set reminded = i.reminded + 1, remind_at = durable.clock() + i.remind_every
      from due d
     where i.execution_id = any (array[d.execution_id]) and i.seq = d.seq
    returning i.*
)
select m.execution_id, e.name as execution_name, m.seq, m.name, m.kind, m.workflow, m.path, m.status, m.requested_at, m.due_at, m.closed_at, m.answered_by,
       m.reminded, m.request, m.answer
  from moved m
  join durable.execution e on e.execution_id = any (array[m.execution_id])
 where e.ended_at is null
