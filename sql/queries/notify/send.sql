-- Send notifications, outside any transaction that writes: a NOTIFY holds a lock over the whole cluster until its commit.
--
-- $1 channel text[]
-- $2 payload text[]     each under 8,000 bytes
-- Returns sent int8
-- Locks   the notification queue, for an instant
-- Index   none
select count(pg_notify(g.channel, g.payload)) as sent from unnest($1::text[], $2::text[]) as g(channel, payload)
