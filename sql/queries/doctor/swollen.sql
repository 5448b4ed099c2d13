-- Our indexes that are larger than their rows explain. Vacuum gives the end of a table back, but of an index nothing.
--
-- $1 bytes int8          of the index, at least
-- $2 bytes_a_row float8  of the index for each row of its table, at least
-- Returns index_name text, bytes int8, rows float8
-- Locks   nothing
-- Index   none of ours
select i.indexrelname::text as index_name, s.bytes, r.rows
  from pg_catalog.pg_stat_user_indexes i
  join pg_catalog.pg_stat_user_tables t on t.relid = i.relid
  join pg_catalog.pg_class c on c.oid = i.relid
 cross join lateral (select pg_catalog.pg_relation_size(i.indexrelid) as bytes) s
 cross join lateral (select greatest(c.reltuples, t.n_live_tup, 1)::float8 as rows) r
 where i.schemaname = 'durable' and s.bytes >= $1::int8 and s.bytes >= $2::float8 * r.rows
 order by s.bytes desc
