-- Law 1: nothing is tried again after its result was recorded (what was left waiting expires), and attempts are counted without gaps or repeats. Of an iteration
-- that is over a result may be kept for its data, which a compensation will need, without the failed attempts before it. The ending of an execution that
-- was retried does not count.
--
-- Returns execution_id uuid, path text, attempt int4
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
select later.execution_id, later.path, later.attempt
  from lasting done
  join lasting later on later.execution_id = done.execution_id and later.path = done.path and later.seq > done.seq
 where done.kind = 'completed' and later.kind <> 'expired'
union all
select execution_id, path, max(attempt)
  from lasting counted
 where kind in ('completed', 'failed') and attempt > 0
 group by execution_id, path
having count(*) <> count(distinct attempt)
    or (max(attempt) <> count(*) and not exists (
               select from durable.journal loop
                where loop.execution_id = counted.execution_id and loop.kind = 'iterated'
                  and starts_with(counted.path, loop.path || '[')
                  and split_part(substr(counted.path, length(loop.path) + 2), ']', 1)::int < loop.attempt))
