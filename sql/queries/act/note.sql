-- Write down what somebody did to an execution. The last statement of the transaction that did it.
--
-- $1 execution_id uuid
-- $2 operation uuid   names this very act
-- $3 kind text
-- $4 acted_by text
-- $5 reason text
-- $6 details text   a JSON object, or null
-- Returns nothing
-- Locks   nothing more
-- Index   act_pkey
insert into durable.act (execution_id, operation, acted_at, kind, acted_by, reason, details)
values ($1::uuid, $2::uuid, durable.clock(), $3::text, $4::text, $5::text, $6::text::jsonb)
    on conflict (execution_id, operation) do nothing
