-- Tell the family of an execution that was cancelled: its parent, if there is one, gets a message; its children are doomed. A
-- statement of its own, after the one that acts: only then does it see a child that was born while that waited for the claim.
--
-- $1 execution_id uuid
-- $2 told text            the message to a parent that waits for it, JSON
-- $3 reason text
-- Returns parent_id uuid, parent_queue text, doomed int8
-- Locks   the row of the parent (held already), then its wake row
-- Index   execution_pkey, execution_children, doomed_pkey, message_once
with me as materialized (
    select e.execution_id, e.parent_id, e.called, e.given_up, p.queue
      from durable.execution e
      left join durable.execution p on p.execution_id = e.parent_id
     where e.execution_id = $1::uuid
), told as materialized (
    select d.outcome
      from me
     cross join lateral durable.deliver(array[me.parent_id], array[case when me.called then 'child:' else 'started:' end || me.execution_id],
                                        array['c:' || me.execution_id], array[case when me.called and not me.given_up then $2::text end]) d
     where me.parent_id is not null
), doomed as (
    insert into durable.doomed (execution_id, doomed_at, undo, reason)
    select c.execution_id, durable.clock(), false, $3::text
      from durable.execution c
     where c.parent_id = $1::uuid and c.ended_at is null
     order by c.execution_id
        on conflict (execution_id) do nothing
    returning execution_id
)
select case when (select count(*) from told) > 0 then parent_id end as parent_id, queue as parent_queue, (select count(*) from doomed) as doomed from me
