-- Law 2: an execution stands in one place at most, and a live one in exactly one.
--
-- Returns execution_id uuid, places int8, status text
select e.execution_id, count(place.execution_id) as places, e.status
  from durable.execution e
  left join (select execution_id from durable.ready
             union all select execution_id from durable.claim
             union all select execution_id from durable.wake
             union all select execution_id from durable.ended) as place on place.execution_id = e.execution_id
 group by e.execution_id, e.status
having count(place.execution_id) <> 1
