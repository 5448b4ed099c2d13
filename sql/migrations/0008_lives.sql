-- 0008 Lives: executions that were begun afresh, with an empty journal.
-- Rewrites tables: no. Old workers: refused by the version of the schema.

create table durable.past (like durable.journal including comments, primary key (execution_id, seq));
comment on table durable.past is 'Journals of earlier lives: nobody reads them to go on.';
