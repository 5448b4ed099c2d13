-- Law 9: the end of a child was told to its parent, unless that had ended.
--
-- Returns execution_id uuid, parent_id uuid
select c.execution_id, c.parent_id
  from durable.execution c
  join durable.execution p on p.execution_id = c.parent_id
 where c.ended_at is not null and p.ended_at is null
   and not exists (select from durable.message m where m.execution_id = p.execution_id and m.once = 'c:' || c.execution_id)
