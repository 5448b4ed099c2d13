-- List executions, newest first, a page at a time: the live ones from their places, the ended ones from their narrow table.
--
-- $1 workflow text           null for all
-- $2 status text[]
-- $3 before timestamptz      the last row of the page before; null to begin
-- $4 before_id uuid
-- $5 limit int4
-- Returns execution_id uuid, name text, workflow text, version int4, queue text, priority int2, status text, tags text, created_at timestamptz, ended_at timestamptz, parent_id uuid, parent_name text
-- Locks   nothing
-- Index   execution_pkey, ended_by_creation
with live as (
    select execution_id, 'pending' as status from durable.ready where array['pending', 'compensating'] && $2::text[]
    union all
    select execution_id, 'running' from durable.claim where array['running', 'compensating'] && $2::text[]
    union all
    select execution_id, null from durable.wake where array['pending', 'waiting', 'compensating'] && $2::text[]
), shown as (
    select e.execution_id, case when e.status = 'pending' then coalesce(live.status, e.status) else e.status end as status, e.created_at
      from live
      join durable.execution e on e.execution_id = live.execution_id
     where ($1::text is null or e.workflow = $1::text)
       and ($3::timestamptz is null or e.created_at < $3 or (e.created_at = $3 and e.execution_id > $4::uuid))
), kept as (
    (select execution_id, status, created_at
       from shown
      where status = any ($2::text[])
      order by created_at desc, execution_id
      limit $5::int4)
    union all
    (select x.execution_id, x.status, x.created_at
       from (select distinct workflow from durable.shape where $1::text is null or workflow = $1::text) as w
      cross join unnest($2::text[]) as s(status)
      cross join lateral (
            select x.execution_id, x.status, x.created_at
              from durable.ended x
             where x.workflow = w.workflow and x.status = s.status
               and ($3::timestamptz is null or x.created_at <= $3)
               and ($3::timestamptz is null or x.created_at < $3 or x.execution_id > $4::uuid)
             order by x.created_at desc, x.execution_id
             limit $5::int4
      ) x)
)
select e.execution_id, e.name, e.workflow, e.version, e.queue, e.priority, kept.status, e.tags::text as tags, e.created_at, e.ended_at,
       e.parent_id, p.name as parent_name
  from kept
  join durable.execution e on e.execution_id = kept.execution_id
  left join durable.execution p on p.execution_id = e.parent_id
 order by kept.created_at desc, kept.execution_id
 limit $5::int4
