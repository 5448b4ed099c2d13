-- Say what limits queues, for all workers. One that is paused stays so, one that is not stays so, and one that has had keys keeps them.
-- Repeating it changes nothing.
--
-- $1 queue text[]   in ascending order
-- $2 global_concurrency int4[]
-- $3 rate_limit int4[]
-- $4 rate_seconds float8[]
-- $5 per_key int4[]
-- $6 max_depth int4[]
-- $7 keyed bool[]
-- $8 paused bool[]   of queues that nobody has declared before
-- Returns queue text, changed bool
--         of those that are new, or were declared otherwise; changed is true of those that had limits
-- Locks   the rows of those queues, in ascending order
-- Index   queue_pkey
with given as materialized (
    select * from unnest($1::text[], $2::int4[], $3::int4[], $4::float8[], $5::int4[], $6::int4[], $7::bool[], $8::bool[])
                  as g(queue, global_concurrency, rate_limit, rate_seconds, per_key, max_depth, keyed, paused)
), before as materialized (
    select q.* from given g join durable.queue q on q.queue = any (array[g.queue])
), differing as materialized (
    select g.*
      from given g
     where not exists (
               select from before b
                where b.queue = g.queue
                  and (b.global_concurrency, b.rate_limit, b.rate_seconds, b.per_key, b.max_depth, b.keyed)
                      is not distinct from (g.global_concurrency, g.rate_limit, g.rate_seconds, g.per_key, g.max_depth, b.keyed or g.keyed))
), declared as (
    insert into durable.queue as q (queue, declared_at, global_concurrency, rate_limit, rate_seconds, per_key, max_depth, keyed, paused, paused_at, pause_reason)
    select queue, durable.clock(), global_concurrency, rate_limit, rate_seconds, per_key, max_depth, keyed, paused,
           case when paused then durable.clock() end, case when paused then 'declared so' end
      from differing
     order by queue
        on conflict (queue) do update
           set declared_at = excluded.declared_at, global_concurrency = excluded.global_concurrency, rate_limit = excluded.rate_limit,
               rate_seconds = excluded.rate_seconds, per_key = excluded.per_key, max_depth = excluded.max_depth, keyed = q.keyed or excluded.keyed
         where (q.global_concurrency, q.rate_limit, q.rate_seconds, q.per_key, q.max_depth, q.keyed)
               is distinct from (excluded.global_concurrency, excluded.rate_limit, excluded.rate_seconds, excluded.per_key, excluded.max_depth,
                                 q.keyed or excluded.keyed)
    returning q.queue
)
select d.queue, (b.global_concurrency, b.rate_limit, b.per_key, b.max_depth) is distinct from (null::int4, null::int4, null::int4, null::int4) as changed from declared d left join before b on b.queue = d.queue
