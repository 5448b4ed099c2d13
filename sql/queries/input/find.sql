-- What an execution asks under a name and is not answered yet, the earliest of it; and whether there is such an execution.
--
-- $1 execution_id uuid
-- $2 name text
-- $3 seq int4             this very request; null for any
-- Returns ended bool, seq int4, kind text, request json
--         no row when there is no such execution, and seq is null when it asks nothing of that name
-- Locks   nothing
-- Index   execution_pkey, input_pkey
select e.ended_at is not null as ended, i.seq, i.kind, i.request
  from durable.execution e
  left join lateral (
       select i.seq, i.kind, i.request
         from durable.input i
        where i.execution_id = e.execution_id and i.status = 'pending' and i.name = $2::text and i.seq = coalesce($3::int4, i.seq)
        order by i.seq
        limit 1
  ) i on true
 where e.execution_id = $1::uuid
