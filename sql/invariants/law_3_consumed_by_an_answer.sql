-- Law 3: what a message brought is in it until an answer holds it. (An iteration of a loop that is over keeps neither.)
--
-- Returns execution_id uuid, number int4, consumed_by int4
select m.execution_id, m.number, m.consumed_by
  from durable.message m
 where (m.consumed_by is null) <> (m.payload is not null)
    or exists (select from durable.journal j where j.execution_id = m.execution_id and j.seq = m.consumed_by and j.kind not in ('answered', 'tried', 'continued'))
