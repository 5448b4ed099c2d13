-- Say what code declares, and learn of which schedules that counts: of those that are new, or whose declaration no worker makes any more, or
-- was first made before ours. One that a worker begins with, which was away while the one that counts was made, is made anew: the code
-- was changed back.
--
-- $1 name text[]             in ascending order
-- $2 declaration text[]
-- $3 away_after float8       seconds after which a declaration that is not repeated counts no more
-- $4 beginning bool         whether this worker says so for the first time
-- Returns name text, declaration text, counts bool, revision int8, workflow text, rule json, next_at timestamptz, handled_at timestamptz, other_seen_at timestamptz, now timestamptz
--         other_seen_at is when a declaration that counts no more was made last
-- Locks   rows of declarations, in ascending order
-- Index   schedule_declaration_pkey, schedule_pkey
with given as materialized (
    select g.name, g.declaration from unnest($1::text[], $2::text[]) as g(name, declaration)
), ours as (
    insert into durable.schedule_declaration as d (name, declaration, first_seen_at, last_seen_at)
    select name, declaration, durable.clock(), durable.clock() from given order by name
        on conflict (name, declaration) do update
       set last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at),
           first_seen_at = case when $4::bool and d.last_seen_at < durable.clock() - make_interval(secs => $3::float8)
                                 and exists (select from durable.schedule s
                                               join durable.schedule_declaration c on c.name = s.name and c.declaration = s.declaration
                                              where s.name = d.name and c.declaration <> d.declaration
                                                and c.last_seen_at >= durable.clock() - make_interval(secs => $3::float8))
                                then excluded.first_seen_at else d.first_seen_at end
    returning name, declaration, first_seen_at
)
select o.name, o.declaration,
       s.name is null or s.declaration is null
       or (s.declaration <> o.declaration
           and (c.name is null or c.last_seen_at < durable.clock() - make_interval(secs => $3::float8)
                or (o.first_seen_at, o.declaration) > (c.first_seen_at, c.declaration))) as counts,
       s.revision, s.workflow, s.rule, s.next_at, s.handled_at,
       case when c.last_seen_at < durable.clock() - make_interval(secs => $3::float8) then c.last_seen_at end as other_seen_at,
       durable.clock() as now
  from ours o
  left join durable.schedule s on s.name = any (array[o.name])
  left join durable.schedule_declaration c on c.name = s.name and c.declaration = s.declaration
