-- End executions, each under its claim, together with the last record, if there is one. Sent again, it finds itself done. One that is
-- to be undone does not complete. What has a parent tells it by a message; not one that ends here, too: nobody there would read it, and
-- its row may not be changed twice in one statement.
--
-- $1  execution_id uuid[]   in ascending order
-- $2  token uuid[]
-- $3  status text[]         the terminal status
-- $4  result_seq int4[]     the record that holds the result; null without one
-- $5  failure json[]        why it failed; null otherwise
-- $6  seq int4[]            the last record; null when there is none to write
-- $7  path text[]
-- $8  kind text[]
-- $9  attempt int4[]
-- $10 value json[]
-- $11 error json[]
-- $12 seconds float4[]
-- $13 reason text[]         that of a cancel; null otherwise
-- $14 parent_id uuid[]      null for what has no parent
-- $15 topic text[]          on which the parent is told; null as well
-- $16 told text[]           what it is told, JSON; null when that is only that it has ended
-- $17 children text[]       those that are to be cancelled, each an array: {...}; null for none
-- $18 asked bool[]          whether it has asked people something, or waits for what is in events; null for no
-- $19 worker_id uuid
-- $20 from_status text[]    the stored statuses from which it may end
-- Returns n int8, watchers uuid[], parent_queue text
-- Locks   rows of the executions and of their parents in ascending order, then their claims, then what they have asked, then wake rows
-- Index   execution_pkey, claim_pkey, journal_pkey, input_pkey, message_once, wake_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], durable.filled($3::text[], $1::uuid[]), durable.filled($4::int4[], $1::uuid[]), $5::json[],
                         durable.filled($6::int4[], $1::uuid[]), durable.filled($7::text[], $1::uuid[]), durable.filled($8::text[], $1::uuid[]),
                         durable.filled($9::int4[], $1::uuid[]), $10::json[],
                         $11::json[], $12::float4[], $13::text[], $14::uuid[], $15::text[], $16::text[], $17::text[], $18::bool[])
                  with ordinality as g(execution_id, token, status, result_seq, failure, seq, path, kind, attempt, value, error, seconds, reason,
                                       parent_id, topic, told, children, asked, n)
), family as materialized (
    select f.execution_id
      from (select execution_id from given where (select count(parent_id) from given) > 0
            union
            select parent_id from given where parent_id is not null) f
     order by f.execution_id
), kin as materialized (
    select f.execution_id
      from family f
     cross join lateral (select from durable.execution e where e.execution_id = f.execution_id for no key update) e
), locked as materialized (
    select g.*, e.released_by, e.status as stored_status, e.watchers, e.undo, e.given_up
      from given g
     cross join lateral (
           select e.released_by, e.status, e.watchers, e.undo, e.given_up from durable.execution e where e.execution_id = g.execution_id for no key update
     ) e
     where (select count(*) from kin) >= 0
), held as materialized (
    select l.*
      from locked l
     cross join lateral (
           select from durable.claim c where c.execution_id = l.execution_id and c.token = l.token for update
     ) c
     where l.stored_status = any ($20::text[]) and ((l.undo is null and not l.given_up) or l.status <> 'completed')
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value, error)
    select execution_id, seq, attempt, durable.clock(), $19::uuid, seconds, kind, path,
           value, error
      from held
     where seq is not null
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt) = (excluded.path, excluded.kind, excluded.attempt)
    returning execution_id, seq
), sure as materialized (
    select * from (select h.*, (execution_id, seq) in (select execution_id, seq from recorded) as written from held h offset 0) as answer
     where seq is null or written
), freed as (
    delete from durable.claim where execution_id = any (array(select execution_id from sure))
), changed as (
    update durable.execution e
       set status = h.status, released_by = h.token, result_seq = h.result_seq, error = h.failure, reason = h.reason, ended_at = durable.clock()
      from sure h
     where e.execution_id = any (array[h.execution_id])
    returning e.execution_id, e.workflow, e.status, e.created_at, e.ended_at
), listed as (
    insert into durable.ended (created_at, ended_at, execution_id, workflow, status)
    select created_at, ended_at, execution_id, workflow, status from changed
), withdrawn as (
    update durable.input
       set status = 'withdrawn', closed_at = durable.clock(), remind_at = null
     where execution_id = any (array(select execution_id from sure where asked)) and status = 'pending'
), unsubscribed as (
    delete from durable.subscription where execution_id = any (array(select execution_id from sure where asked))
), doomed as (
    insert into durable.doomed (execution_id, doomed_at, undo, reason)
    select d.child, durable.clock(), true, 'its parent has ended'
      from (select unnest(children::uuid[]) as child from sure
            union
            select c.execution_id from durable.execution c
             where c.parent_id = any (array(select execution_id from sure where undo is not null or given_up)) and c.ended_at is null) d
     order by d.child
        on conflict (execution_id) do nothing
), told as materialized (
    select count(d.outcome) as count
      from (select array_agg(parent_id order by parent_id, execution_id) as ids,
                   array_agg(topic order by parent_id, execution_id) as topics,
                   array_agg('c:' || execution_id order by parent_id, execution_id) as onces,
                   array_agg(case when not given_up then told end order by parent_id, execution_id) as payloads
              from sure
             where parent_id is not null and parent_id not in (select execution_id from sure)
            having count(*) > 0) as g
     cross join lateral durable.deliver(g.ids, g.topics, g.onces, g.payloads) d
)
select a.n, a.watchers, p.queue as parent_queue
  from (select n, watchers, parent_id from sure
        union all
        select n, watchers, parent_id from locked where released_by = token) as a
  left join lateral (
       select e.queue from durable.execution e where a.parent_id is not null and e.execution_id = a.parent_id offset 0
  ) p on true
 where (select count from told) >= 0
