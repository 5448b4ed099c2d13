-- Delete executions that were kept for long enough, a page of the oldest at a time: those that nobody has started as a child, with all their
-- children, if all of these have ended. Their ids are kept, but for those that were generated for a start: nobody starts these again.
-- Repeating it changes nothing.
--
-- $1 workflow text
-- $2 status text
-- $3 seconds float8        how long they are kept after their end
-- $4 after timestamptz     where the page before has ended; null to begin
-- $5 after_id uuid
-- $6 limit int4            how many are looked at
-- $7 dry_run bool          delete nothing
-- Returns looked_at int8, deleted int8, last_at timestamptz, last_id uuid
-- Locks   execution rows in ascending order, skip locked: never waits
-- Index   ended_by_creation, execution_pkey, execution_children, journal_pkey, past_pkey, message_pkey, input_pkey, stream_pkey, subscription_pkey, act_pkey
with recursive page as materialized (
    select d.created_at, d.ended_at, d.execution_id
      from durable.ended d
     where d.workflow = $1::text and d.status = $2::text and d.created_at <= durable.clock() - make_interval(secs => $3::float8)
       and ($4::timestamptz is null or d.created_at > $4 or (d.created_at = $4 and d.execution_id < $5::uuid))
     order by d.created_at, d.execution_id desc
     limit $6::int4
), tree (root, execution_id, started_by, ended_at, workflow, status, created_at) as (
    select e.execution_id, e.execution_id, e.started_by, e.ended_at, e.workflow, e.status, e.created_at
      from page p
     cross join lateral (select e.* from durable.execution e where e.execution_id = p.execution_id and e.parent_id is null offset 0) e
     where p.ended_at <= durable.clock() - make_interval(secs => $3::float8)
    union all
    select t.root, c.execution_id, c.started_by, c.ended_at, c.workflow, c.status, c.created_at
      from tree t
     cross join lateral (
           select c.execution_id, c.started_by, c.ended_at, c.workflow, c.status, c.created_at from durable.execution c where c.parent_id = t.execution_id offset 0
     ) c
), counted as materialized (
    select t.*, count(*) over own as members, bool_and(t.ended_at is not null) over own as whole from tree t window own as (partition by t.root)
), wanted as materialized (
    select c.* from counted c where c.whole order by c.execution_id
), locked as materialized (
    select w.*, count(*) over (partition by w.root) as held
      from (
           select w.*
             from wanted w
            cross join lateral (
                  select from durable.execution e where e.execution_id = w.execution_id and e.ended_at = w.ended_at for update skip locked
            ) e
            where not $7::bool offset 0
      ) w
), sure as materialized (
    select l.* from locked l where l.held = l.members
), records as (
    delete from durable.journal where execution_id = any (array(select execution_id from sure))
), lives as (
    delete from durable.past where execution_id = any (array(select execution_id from sure))
), messages as (
    delete from durable.message where execution_id = any (array(select execution_id from sure))
), questions as (
    delete from durable.input where execution_id = any (array(select execution_id from sure))
), told as (
    delete from durable.stream where execution_id = any (array(select execution_id from sure))
), subscriptions as (
    delete from durable.subscription where execution_id = any (array(select execution_id from sure))
), acts as (
    delete from durable.act where execution_id = any (array(select execution_id from sure))
), listed as (
    delete from durable.ended d
     using sure s
     where d.workflow = any (array[s.workflow]) and d.status = s.status and d.created_at = s.created_at and d.execution_id = s.execution_id
), gone as (
    delete from durable.execution where execution_id = any (array(select execution_id from sure))
), remembered as (
    insert into durable.kept (execution_id, ended_at, workflow) select execution_id, ended_at, workflow from sure where started_by <> execution_id
        on conflict (execution_id) do nothing
)
select (select count(*) from page) as looked_at, (select count(*) from sure) + (select count(*) from wanted where $7::bool) as deleted,
       (select max(created_at) from page) as last_at,
       (select execution_id from page order by created_at desc, execution_id limit 1) as last_id
