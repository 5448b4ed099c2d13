-- How the server is set up and how full it is.
--
-- Returns version int4, fsync text, synchronous_commit text, full_page_writes text, autovacuum text, notify_usage float8, connections int8, connections_max int4, sockets text, invalid_indexes text[], age_of_database int4, older_workers int8
-- Locks   nothing
-- Index   none of ours
select current_setting('server_version_num')::int4 as version, current_setting('fsync') as fsync, current_setting('synchronous_commit') as synchronous_commit,
       current_setting('full_page_writes') as full_page_writes, current_setting('autovacuum') as autovacuum,
       pg_notification_queue_usage()::float8 as notify_usage, (select count(*) from pg_catalog.pg_stat_activity) as connections,
       current_setting('max_connections')::int4 as connections_max,
       (select setting from pg_catalog.pg_settings where name = 'unix_socket_directories') as sockets,
       array(select c.relname::text from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
              join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = 'durable' and not i.indisvalid) as invalid_indexes,
       (select age(datfrozenxid) from pg_catalog.pg_database where datname = current_database()) as age_of_database,
       (select count(*) from durable.worker w where not w.dead and w.started_at < (select max(m.applied_at) from durable.migration m)) as older_workers
