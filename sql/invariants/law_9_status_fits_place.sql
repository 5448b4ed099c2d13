-- Law 9: the stored status says the same as the place.
--
-- Returns execution_id uuid, status text, place text
select e.execution_id, e.status, place.name as place
  from durable.execution e
  join (select execution_id, 'ready' as name from durable.ready
        union all select execution_id, 'claim' from durable.claim
        union all select execution_id, 'wake' from durable.wake
        union all select execution_id, 'ended' from durable.ended) as place on place.execution_id = e.execution_id
 where case place.name
           when 'ended' then e.ended_at is null
           when 'wake' then e.status not in ('waiting', 'pending', 'compensating')
           else e.status not in ('pending', 'compensating')
       end
