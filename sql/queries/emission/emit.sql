-- Emit events. Sent again, each is there once.
--
-- $1 execution_id uuid[]   unused: names the order of the rows
-- $2 operation uuid[]      names this very call
-- $3 topic text[]
-- $4 payload text[]      JSON; as text, because a caller's own connection may have another codec for json
-- $5 keys text[]           what of it can be matched, a JSON object
-- Returns n int8
-- Locks   the new rows only
-- Index   emission_once
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[]) with ordinality as g(execution_id, operation, topic, payload, keys, n)
), emitted as (
    insert into durable.emission (operation, emitted_at, topic, keys, payload)
    select operation, durable.clock(), topic, keys::jsonb, payload::json from given
        on conflict (operation) do nothing
)
select n from given
