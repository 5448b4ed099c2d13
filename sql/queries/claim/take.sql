-- Claim ready executions for one worker, no more than it has free slots and than the limits of the queues allow: those that are ready for
-- longest first, where a point of priority is worth a minute.
--
-- $1 owner uuid
-- $2 token uuid          one for the whole call: a claim whose reply was lost is found again by it
-- $3 queue text[]
-- $4 want int4[]         free slots, one for each queue
-- $5 shape_id int8[]     the shapes that this worker may be able to go on with
-- $6 suspects int4       how many executions of repeated crashes it may take besides (0 or 1)
-- $7 known int8[]        those of the shapes with which it can, whatever was done already
-- $8 judge int8[]        the shapes of its own definitions: what one of them has held it does not take again
-- $9 held bool[]         for each queue: whether to look at what is held, too. Those refused here are passed one by one
-- Returns execution_id uuid, name text, shape_id int8, queue text, input json, tags text, crashes int2, begun bool, undo text, mail int4, parent_id uuid, called bool, held_by int8[], deadline_in float8, parked bool, ready_at timestamptz, waited float8, journal text, messages text
--         what is parked was not taken: it is paused, and was put aside
--         waited is for how many seconds it was ready; null of what was held, which waited for something else
--         journal and messages are those of one that was begun, and that has mail: JSON arrays of rows like those of journal/read and
--         message/read. Null where they are long, as they are stored, which is known without reading them: read them. They are whole:
--         whoever could write under the last claim had written before it was ready. run_in is as of the statement's beginning: later by
--         what it has waited for the row of a queue
--         held_by is null of what was not held, and empty where the deadline has passed since: all are asked anew, whether they can end it
-- Locks   the rows of queues with limits, in ascending order; then ready rows, skip locked: of those it never waits for one. Not the execution rows: a skipped one would be forgotten until the next poll
-- Index   queue_pkey, claim_by_queue, permit_by_time, ready_in_order, ready_suspects, ready_held, execution_pkey, journal_pkey, message_unread
with granted as materialized (
    select * from durable.grant($3::text[], $4::int4[], $5::int8[], $9::bool[], $6::int4, $7::int8[], $8::int8[])
), suspected as materialized (
    select r.*
      from granted g
     cross join lateral (
           select r.execution_id, r.ready_at, r.crashes, r.begun, e.undo, e.mail, e.parent_id, e.called, e.name, e.shape_id, e.queue, r.key, e.input, e.tags, e.deadline_at,
                  case when r.ready_at < e.deadline_at and e.deadline_at <= durable.clock() then r.held_by[1:0] else r.held_by end as held_by,
                  g.limited, g.rated, g.granted_at
             from durable.ready r
             join durable.execution e on e.execution_id = any (array[r.execution_id])
            where r.queue = g.queue and r.key = g.key and r.shape_id = any ($5::int8[]) and r.crashes >= 2 and (e.paused and e.undo is null and e.status <> 'compensating' and (e.deadline_at is null or e.deadline_at > durable.clock())) is not true
              and (r.held_by is null or r.shape_id = any ($7::int8[]) or not r.held_by && $8::int8[]
                   or (r.ready_at < e.deadline_at and e.deadline_at <= durable.clock()))
            order by r.ready_at
            limit $6::int4
              for update of r skip locked
     ) r
     limit $6::int4
), freed as materialized (
    select r.*
      from granted g
      join unnest($3::text[], $9::bool[]) as w(queue, held) on w.queue = g.queue and w.held
     cross join lateral (
           select r.execution_id, r.ready_at, r.crashes, r.begun, e.undo, e.mail, e.parent_id, e.called, e.name, e.shape_id, e.queue, r.key, e.input, e.tags, e.deadline_at,
                  case when r.ready_at < e.deadline_at and e.deadline_at <= durable.clock() then r.held_by[1:0] else r.held_by end as held_by,
                  g.limited, g.rated, g.granted_at
             from durable.ready r
             join durable.execution e on e.execution_id = any (array[r.execution_id])
            where r.queue = g.queue and r.key = g.key and r.held_by is not null and r.shape_id = any ($5::int8[]) and r.crashes < 2
              and (e.paused and e.undo is null and e.status <> 'compensating' and (e.deadline_at is null or e.deadline_at > durable.clock())) is not true
              and (r.shape_id = any ($7::int8[]) or not r.held_by && $8::int8[]
                   or (r.ready_at < e.deadline_at and e.deadline_at <= durable.clock()))
            order by r.rank
            limit g.allowed - (select count(*) from suspected s where s.queue = g.queue and s.key = g.key)
              for update of r skip locked
     ) r
), picked as materialized (
    select r.*
      from granted g
     cross join lateral (
           select r.execution_id, r.ready_at, r.crashes, r.begun, e.undo, e.mail, e.parent_id, e.called, e.name, e.shape_id, e.queue, r.key, e.input, e.tags, e.deadline_at, r.held_by, g.limited, g.rated, g.granted_at,
                  (e.paused and e.undo is null and e.status <> 'compensating' and (e.deadline_at is null or e.deadline_at > durable.clock())) is true as parked
             from durable.ready r
             join durable.execution e on e.execution_id = any (array[r.execution_id])
            where r.queue = g.queue and r.key = g.key and r.shape_id = any ($5::int8[]) and r.crashes < 2 and r.held_by is null
            order by r.queue, r.key, r.rank, r.execution_id
            limit g.allowed - (select count(*) from suspected s where s.queue = g.queue and s.key = g.key)
                            - (select count(*) from freed f where f.queue = g.queue and f.key = g.key)
              for update of r skip locked
     ) r
), taken as (
    select * from picked where not parked
    union all
    select *, false from freed
    union all
    select *, false from suspected
), removed as (
    delete from durable.ready where execution_id = any (array(select execution_id from taken))
), parked as (
    update durable.ready set held_by = '{}', hold_reason = 'paused' where execution_id = any (array(select execution_id from picked where parked))
), claimed as (
    insert into durable.claim (execution_id, owner, token, claimed_at, crashes, queue, key)
    select execution_id, $1::uuid, $2::uuid, durable.clock(), crashes, case when limited then queue end, key from taken
), permitted as (
    insert into durable.permit (queue, token, granted_at, count)
    select queue, $2::uuid, granted_at, count(*) from taken where rated group by queue, granted_at
)
select execution_id, name, shape_id, queue, input, tags::text as tags, crashes, begun, undo, mail, parent_id, called, held_by,
       extract(epoch from deadline_at - durable.clock())::float8 as deadline_in, parked, ready_at,
       case when held_by is null then greatest(extract(epoch from durable.clock() - ready_at), 0)::float8 end as waited,
       case when begun and not parked then durable.short_journal(execution_id) end as journal,
       case when mail > 0 and not parked then durable.short_mail(execution_id) end as messages
  from (select * from taken union all select * from picked where parked) as found
