-- Begin a new execution with the records that another one has of what came before a node. Sent again, it finds itself done. Of an ending
-- nothing is copied, unless it was forgiven: then both are, and whoever reads them forgives it.
--
-- $1 execution_id uuid     the other one
-- $2 operation uuid        names this very act
-- $3 fork_id uuid
-- $4 name text             the caller's id for it, null for a generated one
-- $5 path text             the node; null to begin at the beginning
-- $6 data text             JSON: what the node is given; null for what it was given then
-- $7 acted_by text
-- $8 reason text
-- $9 origin text           the other's id, as people know it
-- Returns created bool, queue text
--         nothing when there is no such execution
-- Locks   the new rows only
-- Index   execution_pkey, journal_pkey, shape_pkey, kept_pkey
with origin as materialized (
    select e.*, s.timeout,
           (select min(j.seq) from durable.journal j
             where j.execution_id = e.execution_id and (j.path = $5::text or starts_with(j.path, $5::text || '/') or starts_with(j.path, $5::text || '['))) as cut,
           coalesce((select min(j.seq) from durable.journal j
                      where j.execution_id = e.execution_id and j.kind = 'failing'
                        and not exists (select from durable.journal r where r.execution_id = j.execution_id and r.kind = 'retried' and r.seq > j.seq)), 2147483647) as ending
      from durable.execution e
      left join durable.shape s on s.shape_id = e.shape_id
     where e.execution_id = $1::uuid
), born as (
    insert into durable.execution (execution_id, shape_id, started_by, created_at, due_at, deadline_at, version, priority, status, workflow, queue, key, name,
                                   tags, input)
    select $3::uuid, shape_id, $2::uuid, durable.clock(), durable.clock(), durable.clock() + make_interval(secs => timeout), version, priority, 'pending',
           workflow, queue, key, $4::text, coalesce(tags, '{}') || jsonb_build_object('durable.forked_from', $9::text),
           case when $5::text is null and $6::text is not null then $6::text::json else input end
      from origin
     where not exists (select from durable.kept k where k.execution_id = $3::uuid)
        on conflict (execution_id) do nothing
    returning execution_id, shape_id, priority, queue, key
), copied as materialized (
    select j.*
      from origin o
      join durable.journal j on j.execution_id = o.execution_id
     where $5::text is not null and j.seq < least(o.cut, o.ending) and j.key is null
), recorded as (
    insert into durable.journal (execution_id, seq, attempt, recorded_at, run_at, worker_id, seconds, kind, path, value, error, target, data_seq)
    select $3::uuid, c.seq, c.attempt, c.recorded_at, c.run_at, c.worker_id, c.seconds, c.kind, c.path, c.value, c.error, c.target, c.data_seq
      from copied c
     where exists (select from born)
    union all
    select $3::uuid, coalesce((select max(c.seq) from copied c), 0) + 1, 0, durable.clock(), null, $2::uuid, 0, 'forked', '', $6::text::json, null, $5::text, null
     where $5::text is not null and exists (select from born)
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, durable.clock(), shape_id, priority, 0, $5::text is not null, queue, key from born
), noted as (
    insert into durable.act (execution_id, operation, acted_at, kind, acted_by, reason, details)
    select $1::uuid, $2::uuid, durable.clock(), 'fork', $7::text, $8::text,
           jsonb_build_object('fork', coalesce($4::text, $3::uuid::text), 'from_step', $5::text, 'edited', $6::text is not null)
      from born
)
select exists (select from born) or exists (select from durable.execution e where e.execution_id = $3::uuid and e.started_by = $2::uuid) as created, o.queue
  from origin o
 where (select durable.refuse_kept(array(select execution_id from born)))
