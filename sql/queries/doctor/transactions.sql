-- Transactions of this database that are open for long: vacuum cannot remove what has died since they began.
--
-- $1 seconds float8
-- Returns pid int4, application text, state text, seconds float8
-- Locks   nothing
-- Index   none of ours
select pid, application_name as application, coalesce(state, 'unknown') as state, extract(epoch from now() - xact_start)::float8 as seconds
  from pg_catalog.pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
   and xact_start < now() - make_interval(secs => $1::float8)
 order by xact_start
