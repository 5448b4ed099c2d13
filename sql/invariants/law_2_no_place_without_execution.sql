-- Law 2: nothing stands in a place that is not an execution.
--
-- Returns execution_id uuid, place text
select place.execution_id, place.name as place
  from (select execution_id, 'ready' as name from durable.ready
        union all select execution_id, 'claim' from durable.claim
        union all select execution_id, 'wake' from durable.wake
        union all select execution_id, 'ended' from durable.ended
        union all select distinct execution_id, 'journal' from durable.journal) as place
 where not exists (select from durable.execution e where e.execution_id = place.execution_id)
