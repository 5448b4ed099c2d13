-- Law 13: what a schedule has started last is older than what it is to start next, and each queued instant lies between.
--
-- Returns name text, next_at timestamptz, last_at timestamptz
select s.name, s.next_at, s.last_at
  from durable.schedule s
 where s.last_at >= s.next_at or s.due_at < s.next_at
    or exists (select from unnest(s.queued) as q(instant) where q.instant >= s.next_at or q.instant <= s.last_at)
