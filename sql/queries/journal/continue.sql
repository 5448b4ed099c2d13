-- Begin executions afresh, each under its claim: what is recorded becomes past, what they have asked is taken back, children that they wait
-- for are doomed. Sent again, it finds itself done.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- $3 seq int4[]            the record that says so
-- $4 life int4[]           how often that is
-- $5 value json[]          the data that it begins with
-- $6 children text[]       those that are to be cancelled, each an array: {...}
-- $7 worker_id uuid
-- Returns n int8
-- Locks   claim rows for key share, in ascending order; then rows of the journal, and what was asked
-- Index   claim_pkey, journal_pkey, past_pkey, input_pkey, doomed_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::int4[], $5::json[], $6::text[])
                  with ordinality as g(execution_id, token, seq, life, value, children, n)
), held as materialized (
    select g.*
      from given g
     cross join lateral (
           select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
     ) c
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value)
    select execution_id, seq, life, durable.clock(), $7::uuid, 0, 'continued', '', value
      from held
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt) = (excluded.path, excluded.kind, excluded.attempt)
    returning execution_id, seq
), moved as (
    delete from durable.journal j
     using held h
     where j.execution_id = any (array[h.execution_id]) and j.seq < h.seq
    returning j.*
), kept as (
    insert into durable.past select * from moved
), withdrawn as (
    update durable.input
       set status = 'withdrawn', closed_at = durable.clock(), remind_at = null
     where execution_id = any (array(select execution_id from held)) and status = 'pending'
), unread as (
    update durable.message m
       set consumed_by = h.seq, payload = null
      from held h
     where m.execution_id = any (array[h.execution_id]) and m.consumed_by is null and m.topic not like 'event:%'
), unsubscribed as (
    delete from durable.subscription where execution_id = any (array(select execution_id from held))
), doomed as (
    insert into durable.doomed (execution_id, doomed_at, undo, reason)
    select d.child, durable.clock(), true, 'its parent waits for it no more' from (select unnest(children::uuid[]) as child from held) d order by d.child
        on conflict (execution_id) do nothing
)
select n
  from (select n, (execution_id, seq) in (select execution_id, seq from recorded) as written from held offset 0) as answer
 where written
