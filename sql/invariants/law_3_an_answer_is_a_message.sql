-- Law 3: what somebody has answered is a message to who has asked.
--
-- Returns execution_id uuid, seq int4
select i.execution_id, i.seq
  from durable.input i
 where i.status = 'answered'
   and not exists (select from durable.message m where m.execution_id = i.execution_id and m.once = 'i:' || i.seq and m.topic = 'input:' || i.seq || ':' || i.name)
