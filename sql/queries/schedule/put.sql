-- Create a schedule; or, with a revision, take up what code declares of it. Sent again, it does nothing.
--
-- $1  name text
-- $2  revision int8           that of the row which is to be changed, null for a new one
-- $3  operation uuid
-- $4  workflow text
-- $5  version int4
-- $6  rule json
-- $7  input text              JSON
-- $8  overlap text
-- $9  catch_up text
-- $10 catch_up_window float8  seconds, or null; so is the jitter
-- $11 jitter float8
-- $12 queue text              null for the workflow's; so is the priority
-- $13 priority int2
-- $14 tags text               a JSON object, or null
-- $15 declaration text        null for one that is made by a call
-- $16 paused bool             for a new one: what is paused stays so
-- $17 next_at timestamptz
-- $18 due_at timestamptz
-- $19 handled_at timestamptz
-- Returns written bool, created_by uuid
--         created_by is that of a row which was there before
-- Locks   the row
-- Index   schedule_pkey
with written as (
    insert into durable.schedule as s (name, revision, created_at, created_by, changed_at, changed_by, handled_at, next_at, due_at, catch_up_window,
                                       jitter, version, priority, paused, workflow, overlap, catch_up, queue, declaration, tags, rule, input)
    values ($1::text, 1, durable.clock(), $3::uuid, durable.clock(), $3::uuid, $19::timestamptz, $17::timestamptz,
            case when not $16::bool then $18::timestamptz end, $10::float8, $11::float8, $5::int4, $13::int2, $16::bool, $4::text, $8::text,
            $9::text, $12::text, $15::text, ($14::text)::jsonb, $6::json, ($7::text)::json)
        on conflict (name) do update
       set revision = s.revision + 1, changed_at = excluded.changed_at, changed_by = excluded.changed_by, handled_at = excluded.handled_at,
           next_at = excluded.next_at, due_at = case when not s.paused then $18::timestamptz end, catch_up_window = excluded.catch_up_window,
           jitter = excluded.jitter, version = excluded.version, priority = excluded.priority, overlap = excluded.overlap,
           catch_up = excluded.catch_up, queue = excluded.queue, declaration = excluded.declaration, tags = excluded.tags, rule = excluded.rule,
           input = excluded.input
     where s.revision = $2::int8 and s.workflow = excluded.workflow
    returning true
)
select exists (select from written) as written, (select s.created_by from durable.schedule s where s.name = $1::text) as created_by
