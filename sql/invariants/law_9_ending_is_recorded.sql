-- Law 9: an execution is compensating, or has ended so, exactly when its journal says why.
--
-- Returns execution_id uuid, status text
select e.execution_id, e.status
  from durable.execution e
 where (e.status in ('compensating', 'compensated', 'compensation_failed') and not exists (
               select from durable.journal j where j.execution_id = e.execution_id and j.kind = 'failing'))
    or (e.status in ('pending', 'waiting', 'completed') and exists (
               select from durable.journal j where j.execution_id = e.execution_id and j.kind = 'failing'))
