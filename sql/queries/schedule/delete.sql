-- Delete a schedule, unless code that runs declares it. Sent again, it finds nothing.
--
-- $1 name text
-- $2 orphaned_after float8   seconds without a worker that declares it
-- Returns name text
-- Locks   the row, and those of its declarations
-- Index   schedule_pkey, schedule_declaration_pkey
with gone as (
    delete from durable.schedule s
     where s.name = $1::text
       and not exists (
           select from durable.schedule_declaration d
            where d.name = s.name and d.declaration = s.declaration and d.last_seen_at >= durable.clock() - make_interval(secs => $2::float8))
    returning s.name
), forgotten as (
    delete from durable.schedule_declaration d where d.name in (select name from gone)
)
select name from gone
