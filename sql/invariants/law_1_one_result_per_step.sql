-- Law 1: a recorded result is never computed again.
--
-- Returns execution_id uuid, path text, results int8
select execution_id, path, count(*) as results
  from durable.journal
 where kind = 'completed'
 group by execution_id, path
having count(*) > 1
