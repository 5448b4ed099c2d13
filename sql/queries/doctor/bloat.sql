-- Our tables that have more dead rows than they should.
--
-- $1 rows int8     dead rows, at least
-- $2 share float8  dead rows for each live one, at least
-- Returns table_name text, dead int8, live int8, vacuumed_at timestamptz
-- Locks   nothing
-- Index   none of ours
select relname::text as table_name, n_dead_tup as dead, n_live_tup as live, greatest(last_vacuum, last_autovacuum) as vacuumed_at
  from pg_catalog.pg_stat_user_tables
 where schemaname = 'durable' and n_dead_tup >= $1::int8 and n_dead_tup >= $2::float8 * n_live_tup
 order by n_dead_tup desc
