-- When the next reminder is due, in seconds.
--
-- Returns due_in float8
-- Locks   nothing
-- Index   input_reminders
select extract(epoch from min(remind_at) - durable.clock())::float8 as due_in from durable.input where status = 'pending' and remind_at is not null
