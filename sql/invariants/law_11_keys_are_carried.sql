-- Law 11: a place says the key of its execution, for limits are counted by places.
--
-- Returns execution_id uuid, key text, other text
select e.execution_id, e.key, p.key as other
  from durable.execution e
  join (select execution_id, key from durable.ready
        union all
        select execution_id, key from durable.claim where queue is not null) as p on p.execution_id = e.execution_id
 where e.key <> p.key
