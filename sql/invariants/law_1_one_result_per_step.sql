-- Law 1: a recorded result is never computed again, but those of an ending that was retried.
--
-- Returns execution_id uuid, path text, results int8
with lasting as (
    select j.*
      from durable.journal j
     where not exists (
               select from durable.journal failing
                where failing.execution_id = j.execution_id and failing.kind = 'failing' and failing.seq <= j.seq
                  and exists (select from durable.journal retried
                               where retried.execution_id = j.execution_id and retried.kind = 'retried' and retried.seq >= j.seq)
                  and not exists (select from durable.journal retried
                                   where retried.execution_id = j.execution_id and retried.kind = 'retried' and retried.seq > failing.seq and retried.seq < j.seq))
)
select execution_id, path, count(*) as results
  from lasting
 where kind = 'completed'
 group by execution_id, path
having count(*) > 1
