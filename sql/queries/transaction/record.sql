-- Append the record of a step to whose transaction this belongs, under its claim: the last statement before the commit. Without
-- a claim nothing is written. The texts are cast here, whatever the author has taught the connection about json.
-- From here on whoever takes the execution over waits: a process that freezes must not make it wait for long.
--
-- $1 execution_id uuid
-- $2 token uuid
-- $3 seq int4
-- $4 path text
-- $5 attempt int4
-- $6 value text
-- $7 seconds float4         how long the body ran
-- $8 data_seq int4          the record that holds the data of a step without a value
-- $9 worker_id uuid
-- Returns patience text
-- Locks   the claim row for key share
-- Index   claim_pkey, journal_pkey
with held as materialized (
    select crashes from durable.claim where execution_id = $1::uuid and token = $2::uuid for key share
), cleared as (
    update durable.claim set crashes = 0
     where execution_id = $1::uuid and token = $2::uuid and exists (select from held where crashes > 0)
), recorded as (
    insert into durable.journal (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value, data_seq)
    select $1::uuid, $3::int4, $5::int4, durable.clock(), $9::uuid, $7::float4, 'completed', $4::text, $6::text::json, $8::int4
      from held
    returning seq
)
select set_config('idle_in_transaction_session_timeout', '3s', true) as patience from recorded
