-- What has happened in an execution, and what its bodies have told, after a place of each: as of one moment, for what is told after a
-- record must not be seen without it. In parts, each in its order: records that are new, those that were late, and what was told.
-- Records of earlier lives are among them.
--
-- $1 execution_id uuid
-- $2 after_seq int4        the last record that was seen
-- $3 first int4[]          the beginnings, and
-- $4 last int4[]           the ends, of the gaps before it
-- $5 after_position int8   what was told last
-- $6 limit int4            of each part
-- Returns part text, now timestamptz, number int8, at timestamptz, kind text, path text, attempt int4, value json, message text, key text, error json, run_at timestamptz, run uuid
-- Locks   nothing
-- Index   journal_pkey, past_pkey, stream_in_order
with asked as (
    select 'late' as part, first, last from unnest($3::int4[], $4::int4[]) as g(first, last)
    union all
    select 'new', least($2::int4, 2147483646) + 1, 2147483647
), records as (
    select a.part, j.*
      from asked a
     cross join lateral (
           (select * from durable.journal j where j.execution_id = $1::uuid and j.seq between a.first and a.last order by j.seq limit $6::int4)
           union all
           (select * from durable.past j where j.execution_id = $1::uuid and j.seq between a.first and a.last order by j.seq limit $6::int4)
     ) j
), numbered as (
    select r.*, row_number() over (partition by r.part order by r.seq) as n from records r
)
(select r.part, durable.clock() as now, r.seq::int8 as number, r.recorded_at as at, r.kind, r.path, r.attempt, r.value, null::text as message, r.key, r.error,
        r.run_at, null::uuid as run
   from numbered r
  where r.n <= $6::int4
  order by r.seq)
union all
(select 'told', durable.clock(), s.position, s.sent_at, s.kind, s.path, s.attempt, s.value, s.message, null, null, null, s.run
   from durable.stream s
  where s.execution_id = $1::uuid and s.position > $5::int8
  order by s.position
  limit $6::int4)
