-- Law 4: nobody sleeps although a message that wakes him is there.
--
-- Returns execution_id uuid, topic text
select w.execution_id, m.topic
  from durable.wake w
  join durable.message m on m.execution_id = w.execution_id and m.consumed_by is null and m.topic = any (w.topics)
