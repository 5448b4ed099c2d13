-- Law 9: what has ended asks nothing any more.
--
-- Returns execution_id uuid, seq int4
select i.execution_id, i.seq
  from durable.input i
  join durable.execution e on e.execution_id = i.execution_id
 where i.status = 'pending' and e.ended_at is not null
