-- Close what executions have asked and do not wait for any more, each under its claim.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- $3 seqs text[]           the records that have asked, each as an array: {1,2}
-- Returns n int8
-- Locks   claim rows for key share, in ascending order; then input rows
-- Index   claim_pkey, input_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::text[]) with ordinality as g(execution_id, token, seqs, n)
), held as materialized (
    select g.*
      from given g
     cross join lateral (
           select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
     ) c
), closed as (
    update durable.input i
       set status = 'withdrawn', closed_at = durable.clock(), remind_at = null
      from held h
     where i.execution_id = any (array[h.execution_id]) and i.seq = any (h.seqs::int4[]) and i.status = 'pending'
)
select n from held
