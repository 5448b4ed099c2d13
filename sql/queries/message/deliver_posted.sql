-- Deliver what was posted within transactions that are committed by now, in that order. What has no execution to go to any more
-- is dropped.
--
-- $1 limit int4           how many
-- $2 bytes int8           about how many bytes of payload, but one at least
-- Returns execution_id uuid, outcome text, queue text
-- Locks   rows of posted; then execution rows in ascending order, then their wake rows
-- Index   posted_pkey, execution_pkey, message_once, wake_pkey
with first as materialized (
    select post_id, payload::text as payload from durable.posted where refused is null order by post_id limit $1::int4
), fitting as materialized (
    select post_id
      from (select post_id, sum(octet_length(payload)) over (order by post_id) as size, row_number() over (order by post_id) as n from first) f
     where size <= $2::int8 or n = 1
     order by post_id
), taken as materialized (
    select p.*
      from fitting s
     cross join lateral (
           select p.post_id, p.execution_id, p.topic, p.once, p.payload::text as payload from durable.posted p where p.post_id = s.post_id for update
     ) p
), removed as (
    delete from durable.posted where post_id = any (array(select post_id from taken))
), gathered as materialized (
    select array_agg(execution_id order by execution_id, post_id) as ids, array_agg(topic order by execution_id, post_id) as topics,
           array_agg(once order by execution_id, post_id) as onces, array_agg(payload order by execution_id, post_id) as payloads
      from taken
    having count(*) > 0
)
select g.ids[d.n] as execution_id, d.outcome, d.queue
  from gathered g
 cross join lateral durable.deliver(g.ids, g.topics, g.onces, g.payloads) d
