-- Law 4: an execution counts its messages, none newer and none more.
--
-- Returns execution_id uuid, mail int4, number int4
select e.execution_id, e.mail, m.number
  from durable.execution e
  left join (select execution_id, max(number) as number from durable.message group by execution_id) m on m.execution_id = e.execution_id
 where e.mail <> coalesce(m.number, 0)
