-- Law 9: an execution is compensating, or has ended so, exactly when its journal says why, and nobody has had it retried since.
--
-- Returns execution_id uuid, status text
select e.execution_id, e.status
  from durable.execution e
 where (e.status in ('compensating', 'compensated', 'compensation_failed') and not exists (
               select from durable.journal j where j.execution_id = e.execution_id and j.kind = 'failing'))
    or (e.status in ('pending', 'waiting', 'completed') and exists (
               select from durable.journal j
                where j.execution_id = e.execution_id and j.kind = 'failing'
                  and not exists (select from durable.journal r where r.execution_id = e.execution_id and r.kind = 'retried' and r.seq > j.seq)))
