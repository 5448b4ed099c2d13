-- Change a schedule, unless it was changed or has fired since it was read. Sent again, it finds itself done.
--
-- $1  name text
-- $2  revision int8           as it was read
-- $3  operation uuid
-- $4  rule json
-- $5  input text              JSON
-- $6  overlap text
-- $7  catch_up text
-- $8  catch_up_window float8  seconds, or null; so is the jitter
-- $9  jitter float8
-- $10 queue text              null for the workflow's; so is the priority
-- $11 priority int2
-- $12 tags text               a JSON object, or null
-- $13 paused bool
-- $14 paused_by text
-- $15 paused_reason text
-- $16 next_at timestamptz
-- $17 due_at timestamptz      null while it is paused
-- $18 handled_at timestamptz
-- Returns changed bool
-- Locks   the row
-- Index   schedule_pkey
with changed as (
    update durable.schedule
       set revision = revision + 1, changed_at = durable.clock(), changed_by = $3::uuid, rule = $4::json, input = ($5::text)::json,
           overlap = $6::text, catch_up = $7::text, catch_up_window = $8::float8, jitter = $9::float8, queue = $10::text, priority = $11::int2,
           tags = ($12::text)::jsonb, paused = $13::bool, paused_by = $14::text, paused_reason = $15::text, next_at = $16::timestamptz,
           due_at = $17::timestamptz, handled_at = $18::timestamptz
     where name = $1::text and revision = $2::int8
    returning true
)
select exists (select from changed) or exists (select from durable.schedule where name = $1::text and changed_by = $3::uuid) as changed
