-- Of each workflow how many executions have failed and are kept, and how many sleep; those with the most come first. It costs no more the
-- more there are: of a status not more than a limit are counted, and if more than that sleep, it is reckoned from about 2,000 of them.
--
-- $1 status text[]   what they have ended with
-- $2 limit int4
-- Returns workflow text, failed int8[], waiting int8
--         failed has a count for each status, in their order
-- Locks   nothing
-- Index   ended_by_creation, execution_pkey
with named as materialized (
    select distinct workflow from durable.shape
), size as materialized (
    select c.reltuples::float8 as count from pg_catalog.pg_class c where c.oid = 'durable.wake'::regclass
), sleeping as materialized (
    (select execution_id from durable.wake where (select count from size) <= $2::int4 limit $2::int4)
    union all
    select execution_id from durable.wake tablesample system ((select least(100, 200000 / greatest(count, 1))::float4 from size)) where (select count from size) > $2::int4
), waiting as materialized (
    select e.workflow, count(*) * case when (select count from size) <= $2::int4 then 1 else (select count from size) / (select count(*) from sleeping) end as count
      from sleeping s
     cross join lateral (select e.workflow from durable.execution e where e.execution_id = any (array[s.execution_id])) e
     group by e.workflow
)
select n.workflow, f.counts as failed, coalesce(round(w.count)::int8, 0) as waiting
  from named n
  left join waiting w on w.workflow = n.workflow
 cross join lateral (
       select array_agg(c.count order by s.n) as counts, sum(c.count) as sum
         from unnest($1::text[]) with ordinality as s(status, n)
        cross join lateral (
              select count(*) from (select from durable.ended d where d.workflow = n.workflow and d.status = s.status limit $2::int4) as failed
        ) c
 ) f
 order by f.sum + coalesce(w.count, 0) desc, n.workflow
