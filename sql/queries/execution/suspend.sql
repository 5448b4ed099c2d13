-- Put executions to sleep until a time or a message, each under its claim, together with its last record, if there is one. Sent
-- again, it finds itself done. One that is to be undone is not put to sleep, and one that got a message which its owner has not
-- seen is made ready.
-- Whether there is one is decided on the execution's own row: that of the message may be newer than this statement's snapshot.
--
-- $1  execution_id uuid[]   in ascending order
-- $2  token uuid[]
-- $3  delay float8[]        seconds until it is to be looked at, null for never; its deadline may be earlier
-- $4  seq int4[]            the last record; null when there is none to write
-- $5  path text[]
-- $6  kind text[]
-- $7  attempt int4[]
-- $8  value json[]
-- $9  error json[]
-- $10 run_in float8[]       seconds until the next attempt that the record promises
-- $11 seconds float4[]
-- $12 seen int4[]           the latest message that its owner knows of
-- $13 topics text[]         the messages that are to wake it, each an array: {a,b}; null for none
-- $14 worker_id uuid
-- $15 from_status text[]    the stored statuses from which it may be suspended
-- $16 to_status text        what it is called while it sleeps
-- Returns n int8, ready bool
-- Locks   execution rows in ascending order, then their claims
-- Index   execution_pkey, claim_pkey, journal_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::float8[], $4::int4[], $5::text[], $6::text[], $7::int4[], $8::json[], $9::json[], $10::float8[],
                         $11::float4[], $12::int4[], $13::text[])
                  with ordinality as g(execution_id, token, delay, seq, path, kind, attempt, value, error, run_in, seconds, seen, topics, n)
), locked as materialized (
    select g.*, e.released_by, e.status as stored_status, e.deadline_at, e.undo, e.shape_id, e.priority, e.queue, e.key, topics is not null and e.mail > seen as mail
      from given g
     cross join lateral (
           select e.released_by, e.status, e.deadline_at, e.undo, e.shape_id, e.priority, e.queue, e.key, e.mail from durable.execution e where e.execution_id = g.execution_id for no key update
     ) e
), held as materialized (
    select l.*
      from locked l
     cross join lateral (
           select from durable.claim c where c.execution_id = l.execution_id and c.token = l.token for update
     ) c
     where l.stored_status = any ($15::text[]) and l.undo is null
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, run_at, worker_id, seconds, kind, path, value, error)
    select execution_id, seq, attempt, durable.clock(), durable.clock() + make_interval(secs => run_in), $14::uuid, seconds, kind, path,
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
       set status = case when h.mail and $16::text = 'waiting' then 'pending' else $16::text end, released_by = h.token
      from sure h
     where e.execution_id = any (array[h.execution_id])
), asleep as (
    insert into durable.wake (execution_id, due_at, topics)
    select execution_id, least(coalesce(durable.clock() + make_interval(secs => delay), 'infinity'), deadline_at), topics::text[] from sure where not mail
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, durable.clock(), shape_id, priority, 0, true, queue, key from sure where mail
)
select n, mail as ready from sure
union all
select n, true as ready from locked where released_by = token
