-- Record iterations of loops, each under its claim, in the place of the records that they make superfluous. Like `journal/record`
-- otherwise; sent again, it finds itself done.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- $3 seq int4[]
-- $4 path text[]
-- $5 iterations int4[]     how many are over
-- $6 value json[]          the data after the last of them
-- $7 drops text[]          the numbers of the records to be taken away, each as an array: {4,5,6}
-- $8 asked text[]          what the iteration has asked or listened for and nobody waits for any more, as arrays; null for nothing
-- $9 children text[]       children that nobody waits for any more, likewise
-- $10 worker_id uuid
-- Returns n int8
-- Locks   claim rows for key share, in ascending order: a takeover waits for the record, or the record finds the claim gone; then
--         what was asked
-- Index   claim_pkey, journal_pkey, input_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::text[], $5::int4[], $6::json[], $7::text[], $8::text[], $9::text[])
                  with ordinality as g(execution_id, token, seq, path, iterations, value, drops, asked, children, n)
), held as materialized (
    select g.*, c.crashes
      from given g
     cross join lateral (
           select c.crashes from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
     ) c
), crashed as materialized (
    select h.execution_id
      from held h
     cross join lateral (
           select from durable.claim c where c.execution_id = h.execution_id for no key update
     ) c
     where h.crashes > 0
), cleared as (
    update durable.claim set crashes = 0
     where execution_id = any (array(select execution_id from crashed))
), dropped as (
    delete from durable.journal j
     using held h
     where j.execution_id = any (array[h.execution_id]) and j.seq = any (h.drops::int4[])
), recorded as (
    insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value)
    select execution_id, seq, iterations, durable.clock(), $10::uuid, 0, 'iterated', path, value
      from held
        on conflict (execution_id, seq) do update set seq = excluded.seq
           where (j.path, j.kind, j.attempt) = (excluded.path, excluded.kind, excluded.attempt)
    returning execution_id, seq
), open as materialized (
    select a.execution_id, a.seq
      from (select execution_id, unnest(asked::int4[]) as seq from held where asked is not null) a
     cross join lateral (
           select from durable.input i where i.execution_id = a.execution_id and i.seq = a.seq and i.status = 'pending' for no key update
     ) i
), withdrawn as (
    update durable.input i
       set status = 'withdrawn', closed_at = durable.clock(), remind_at = null
      from open o
     where i.execution_id = any (array[o.execution_id]) and i.seq = o.seq
), unsubscribed as (
    delete from durable.subscription s
     using (select execution_id, unnest(asked::int4[]) as seq from held where asked is not null) a
     where s.execution_id = any (array[a.execution_id]) and s.seq = a.seq
), doomed as (
    insert into durable.doomed (execution_id, doomed_at, undo, reason)
    select d.child, durable.clock(), true, 'its parent waits for it no more' from (select unnest(children::uuid[]) as child from held) d order by d.child
        on conflict (execution_id) do nothing
)
select n
  from (select n, (execution_id, seq) in (select execution_id, seq from recorded) as written from held offset 0) as answer
 where written
