-- Post what was emitted to those who wait for it.
--
-- $1 limit int4
-- Returns looked_at int4
-- Locks   rows of emission; then of topic, in ascending order; then of subscription
-- Index   emission_to_spread, emission_pkey, topic_pkey, keyset_pkey, subscription_by_match
select durable.spread($1::int4) as looked_at
