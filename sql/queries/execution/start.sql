-- Start executions: each is born into one place, or found to exist already. A start that is sent again finds itself.
--
-- $1  execution_id uuid[]      in ascending order, so that two batches with common ids cannot deadlock
-- $2  name text[]              the caller's id, null for a generated one
-- $3  operation uuid[]         names this very start; null for the id, where that was generated for it
-- $4  shape_id int8[]
-- $5  workflow text[]
-- $6  version int4[]
-- $7  queue text[]
-- $8  priority int2[]
-- $9  tags text[]              JSON objects, or null
-- $10 input text[]           JSON; as text, because a caller's own connection may have another codec for json
-- $11 scheduled_at timestamptz[]  not before; null for at once
-- $12 delay float8[]           seconds from now; null for none
-- $13 timeout float8[]         seconds from when it is due to its deadline; null for none
-- $14 token uuid[]             claim at birth, where the queue has no limits; null to be made ready
-- $15 key text[]               with whom it takes turns; null for nobody
-- $16 owner uuid               the worker that claims at birth
-- $17 chosen bool              whether the ids are the callers': they may be those of executions that were deleted
-- Returns n int8, created bool, existing_workflow text, due_in float8, claimed bool, refused text
--         refused says why it was not started: full, key (the queue has keys, and none was given), no_key (the other way round)
-- Locks   the new rows only; waits for a concurrent start of the same id
-- Index   execution_pkey, claim_pkey, queue_pkey, ready_in_order, kept_pkey
with limits as materialized (
    select q.queue, q.keyed, q.limited,
           q.max_depth - (select count(*) from (select from durable.ready r where r.queue = q.queue and r.held_by is null limit q.max_depth) as deep) as room
      from durable.queue q
     where q.queue = any (array(select distinct unnest($7::text[])))
), asked as materialized (
    select g.*, greatest(coalesce(g.scheduled_at, durable.clock()), durable.clock() + make_interval(secs => coalesce(g.delay, 0))) as due_at
      from unnest($1::uuid[], $2::text[], $3::uuid[], durable.filled($4::int8[], $1::uuid[]), durable.filled($5::text[], $1::uuid[]),
                  durable.filled($6::int4[], $1::uuid[]), durable.filled($7::text[], $1::uuid[]), durable.filled($8::int2[], $1::uuid[]),
                  durable.filled($9::text[], $1::uuid[]), $10::text[],
                  $11::timestamptz[], $12::float8[], durable.filled($13::float8[], $1::uuid[]), $14::uuid[], $15::text[])
           with ordinality as g(execution_id, name, operation, shape_id, workflow, version, queue, priority, tags, input,
                                scheduled_at, delay, timeout, token, key, n)
), crowded as materialized (
    select n
      from (
           select a.n, l.room, row_number() over (partition by a.queue order by a.n) as place
             from limits l
             join asked a on a.queue = l.queue
            where l.room is not null and a.due_at <= durable.clock() and (a.token is null or l.limited)
              and not exists (select from durable.execution e where e.execution_id = a.execution_id offset 0)
      ) as waits
     where place > room
), given as materialized (
    select a.execution_id, a.name, coalesce(a.operation, a.execution_id) as operation, a.shape_id, a.workflow, a.version, a.queue, a.priority, a.tags, a.input, a.timeout, a.n, a.due_at,
           coalesce(a.key, '') as key, a.token as asked, case when l.limited is not true then a.token end as token,
           case when a.key is not null and l.keyed is not true then 'no_key'
                when a.key is null and l.keyed then 'key'
                when a.n in (select n from crowded) then 'full' end as refused
      from asked a
      left join limits l on l.queue = a.queue
), born as (
    insert into durable.execution (execution_id, shape_id, started_by, created_at, due_at, deadline_at, version, priority, status,
                                   workflow, queue, key, name, tags, input)
    select g.execution_id, g.shape_id, g.operation, durable.clock(), g.due_at, g.due_at + make_interval(secs => g.timeout), g.version,
           g.priority, 'pending', g.workflow, g.queue, g.key, g.name, g.tags::jsonb, g.input::json
      from given g
     where g.refused is null and not ($17::bool and exists (select from durable.kept k where k.execution_id = g.execution_id offset 0))
     order by g.execution_id
        on conflict (execution_id) do nothing
    returning execution_id, started_by
), judged as materialized (
    select g.*, g.operation in (select started_by from born) as created, g.due_at > durable.clock() as later from given g
), claimed as (
    insert into durable.claim (execution_id, owner, token, claimed_at, crashes)
    select execution_id, $16::uuid, token, durable.clock(), 0 from judged where created and token is not null
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, due_at, shape_id, priority, 0, false, queue, key from judged where created and token is null and not later
), delayed as (
    insert into durable.wake (execution_id, due_at)
    select execution_id, due_at from judged where created and token is null and later
)
select g.n, g.created or old.started_by is not distinct from g.operation as created, coalesce(old.workflow, (select k.workflow from durable.kept k where $17::bool and not g.created and k.execution_id = g.execution_id)) as existing_workflow,
       case when g.later then extract(epoch from g.due_at - durable.clock())::float8 end as due_in,
       case when g.created then g.token is not null else coalesce(old.claimed, false) end as claimed,
       case when not g.created and old.started_by is null and not ($17::bool and exists (select from durable.kept k where k.execution_id = g.execution_id offset 0)) then g.refused end as refused
  from judged g
  left join lateral (
       select e.started_by, e.workflow,
              (select true from durable.claim c where c.execution_id = e.execution_id and c.token = g.asked limit 1) as claimed
         from durable.execution e where not g.created and e.execution_id = g.execution_id offset 0
  ) old on true
 where not $17::bool or (select durable.refuse_kept(array(select execution_id from born)))
