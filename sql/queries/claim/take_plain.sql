-- Claim ready executions of queues without limits, no more than the worker has free slots: like `claim/take`, of those that are neither suspects
-- nor held nor paused.
--
-- $1 owner uuid
-- $2 token uuid          one for the whole call: a claim whose reply was lost is found again by it
-- $3 queue text[]
-- $4 want int4[]         free slots, one for each queue
-- $5 shape_id int8[]     the shapes that this worker may be able to go on with
-- $6 suspects bool       whether to look for executions of repeated crashes
-- Returns execution_id uuid, name text, shape_id int8, queue text, input json, tags text, crashes int2, begun bool, undo text, mail int4, parent_id uuid, called bool, held_by int8[], deadline_in float8, parked bool, ready_at timestamptz, waited float8, journal text, messages text, suspects bool, limited bool
--         one row with nothing but the last two, if nothing is taken: whether there are suspects, not held ones, and whether one of the queues has
--         limits. What is parked was not taken, nor put aside
-- Locks   ready rows, skip locked
-- Index   queue_pkey, ready_in_order, ready_suspects, execution_pkey, journal_pkey, message_unread
--         num_nulls is said for "is null", which is the condition of ready_in_order: without statistics, suspects would be looked for there
with limited as materialized (
    select q.queue from durable.queue q where q.queue = any ($3::text[]) and q.limited
), picked as materialized (
    select r.*
      from unnest($3::text[], $4::int4[]) as w(queue, want)
     cross join lateral (
           select r.execution_id, r.ready_at, r.crashes, r.begun, e.undo, e.mail, e.parent_id, e.called, e.name, e.shape_id, e.queue, e.input, e.tags, e.deadline_at, r.held_by,
                  (e.paused and e.undo is null and e.status <> 'compensating' and (e.deadline_at is null or e.deadline_at > durable.clock())) is true as parked
             from durable.ready r
             join durable.execution e on e.execution_id = any (array[r.execution_id])
            where r.queue = w.queue and r.key = '' and r.shape_id = any ($5::int8[]) and r.crashes < 2 and r.held_by is null
            order by r.queue, r.key, r.rank, r.execution_id
            limit w.want
              for update of r skip locked
     ) r
     where w.queue not in (select queue from limited)
), removed as (
    delete from durable.ready where execution_id = any (array(select execution_id from picked where not parked))
), claimed as (
    insert into durable.claim (execution_id, owner, token, claimed_at, crashes)
    select execution_id, $1::uuid, $2::uuid, durable.clock(), crashes from picked where not parked
)
select p.execution_id, p.name, p.shape_id, p.queue, p.input, p.tags::text as tags, p.crashes, p.begun, p.undo, p.mail, p.parent_id, p.called, p.held_by,
       extract(epoch from p.deadline_at - durable.clock())::float8 as deadline_in, p.parked, p.ready_at,
       greatest(extract(epoch from durable.clock() - p.ready_at), 0)::float8 as waited,
       case when p.begun and not p.parked then durable.short_journal(p.execution_id) end as journal,
       case when p.mail > 0 and not p.parked then durable.short_mail(p.execution_id) end as messages,
       s.suspects, s.limited
  from (select $6::bool and exists (
                   select from unnest($3::text[]) as w(queue)
                    cross join lateral (
                          select from durable.ready r
                            join durable.execution e on e.execution_id = any (array[r.execution_id])
                           where r.queue = w.queue and r.crashes >= 2 and num_nulls(r.held_by) = 1 and r.shape_id = any ($5::int8[])
                             and (e.paused and e.undo is null and e.status <> 'compensating' and (e.deadline_at is null or e.deadline_at > durable.clock())) is not true
                           order by r.ready_at
                           limit 1
                    ) r
               ) as suspects,
               exists (select from limited) as limited) s
  left join picked p on true
