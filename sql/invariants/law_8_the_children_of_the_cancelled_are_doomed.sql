-- Law 8: what was cancelled leaves no child that goes on for long.
--
-- Returns execution_id uuid, parent_id uuid
select c.execution_id, c.parent_id
  from durable.execution c
  join durable.execution p on p.execution_id = c.parent_id
 where p.status = 'cancelled' and c.ended_at is null and c.undo is null and not c.given_up and c.status <> 'compensating'
   and not exists (select from durable.doomed d where d.execution_id = c.execution_id)
