-- Ask that a process be notified when executions end. The row is changed, not another table read: whoever ends the execution
-- at this moment either sees the watcher or has ended it before, and then there is no row here.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 watcher uuid
-- Returns execution_id uuid
-- Locks   execution rows in ascending order
-- Index   execution_pkey
with given as materialized (
    select g.execution_id, e.watched
      from unnest($1::uuid[]) as g(execution_id)
     cross join lateral (
           select coalesce($2::uuid = any (e.watchers), false) as watched
             from durable.execution e
            where e.execution_id = g.execution_id and e.ended_at is null
           offset 0
     ) e
), locked as materialized (
    select e.execution_id
      from given g
     cross join lateral (
           select e.execution_id from durable.execution e where e.execution_id = g.execution_id and e.ended_at is null for no key update
     ) e
     where not g.watched
), added as (
    update durable.execution e
       set watchers = array_append(e.watchers, $2::uuid)
     where e.execution_id = any (array(select execution_id from locked)) and e.ended_at is null
    returning e.execution_id
)
select execution_id from given where watched
union all
select execution_id from added
