-- Law 1: what a step was given that returned nothing and may have to be undone is there as long as the step's record is.
--
-- Returns execution_id uuid, path text, data_seq int4
select j.execution_id, j.path, j.data_seq
  from durable.journal j
 where j.data_seq > 0
   and not exists (
       select from durable.journal data
        where data.execution_id = j.execution_id and data.seq = j.data_seq and data.seq < j.seq and data.value is not null
   )
