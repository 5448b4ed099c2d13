-- Which queues have limits, or keys.
--
-- Returns queue text, limited bool, keyed bool, paused bool
-- Locks   nothing
-- Index   none: a row a queue
select queue, limited, keyed, paused from durable.queue
