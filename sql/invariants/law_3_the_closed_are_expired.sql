-- Law 3: what was recorded as expired was not answered.
--
-- Returns execution_id uuid, seq int4
select i.execution_id, i.seq
  from durable.input i
  join durable.journal asked on asked.execution_id = i.execution_id and asked.seq = i.seq
  join durable.journal j on j.execution_id = i.execution_id and j.path = asked.path and j.key = asked.key and j.attempt = asked.attempt and j.kind = 'expired'
   and j.seq > asked.seq
 where i.status = 'answered'
