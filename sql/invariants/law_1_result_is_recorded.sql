-- Law 1: a completed execution's result is its input or one of its records.
--
-- Returns execution_id uuid, result_seq int4
select e.execution_id, e.result_seq
  from durable.execution e
 where e.status = 'completed'
   and coalesce(e.result_seq, -1) <> 0
   and not exists (select from durable.journal j
                    where j.execution_id = e.execution_id and j.seq = e.result_seq and j.kind = 'completed' and j.value is not null)
