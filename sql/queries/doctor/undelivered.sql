-- What is under way between executions and has come to a stop: events that were refused, that were posted and wait, emissions that nobody
-- has spread, and cancellations that nobody has carried out.
--
-- $1 seconds float8
-- Returns kind text, rows int8
-- Locks   nothing
-- Index   emission_to_spread, doomed_in_order
select 'refused' as kind, count(*) as rows from durable.posted where refused is not null having count(*) > 0
union all
select 'emitted', count(*) from durable.emission where not spread and emitted_at < durable.clock() - make_interval(secs => $1::float8) having count(*) > 0
union all
select 'doomed', count(*) from durable.doomed where doomed_at < durable.clock() - make_interval(secs => $1::float8) having count(*) > 0
