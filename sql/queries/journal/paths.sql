-- The top-level nodes of which something is recorded, in the order in which they were reached.
--
-- $1 execution_id uuid
-- Returns path text, completed bool
-- Locks   nothing
-- Index   journal_pkey
select top as path, completed
  from (select split_part(split_part(j.path, '/', 1), '[', 1) as top, min(j.seq) as seq,
               bool_or(j.kind = 'completed' and j.path = split_part(split_part(j.path, '/', 1), '[', 1)) as completed
          from durable.journal j
         where j.execution_id = $1::uuid and j.path <> ''
         group by 1) as reached
 order by seq
