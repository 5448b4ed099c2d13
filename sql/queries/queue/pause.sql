-- Pause a queue, or go on with it. Repeating it changes nothing.
--
-- $1 queue text
-- $2 paused bool
-- $3 reason text
-- $4 by text
-- Returns changed bool
-- Locks   the row of the queue
-- Index   queue_pkey
with changed as (
    insert into durable.queue as q (queue, declared_at, keyed, paused, paused_at, pause_reason, paused_by)
    select $1::text, durable.clock(), false, true, durable.clock(), $3::text, $4::text where $2::bool or exists (select from durable.queue x where x.queue = $1::text)
        on conflict (queue) do update
           set paused = $2::bool, paused_at = case when $2::bool then excluded.paused_at end, pause_reason = case when $2::bool then excluded.pause_reason end,
               paused_by = case when $2::bool then excluded.paused_by end
         where q.paused <> $2::bool
    returning 1
)
select exists (select from changed) as changed
