-- 0003 Control flow and sagas: what else a journal can say, executions that are being ended, and holds.
-- Rewrites tables: no. Old workers: refused by the version of the schema.

alter table durable.journal
    add column target text,
    add column data_seq int,
    drop constraint only_failures_have_an_error,
    add constraint only_failures_have_an_error check ((kind in ('failed', 'failing')) = (error is not null));
comment on table durable.journal is 'What has happened, in order of seq within an execution. Only a loop takes records away: those of iterations that are over.';
comment on column durable.journal.target is 'The node that a Goto leads to, or the label of a chosen case.';
comment on column durable.journal.data_seq is 'Of a step that can be undone and has no value: the record that holds its data; 0 is the input.';

alter table durable.execution
    add column undo text,
    add column undo_by uuid;
comment on column durable.execution.undo_by is 'The operation that asked for it: sent again, it finds itself done.';
comment on column durable.execution.undo is 'The reason of a cancel that asks for compensation, until whoever runs it has heard of it.';

-- A hold: the row waits where it is for a worker whose code can go on with it.
alter table durable.ready
    add column held_by bigint[],
    add column hold_reason text;
comment on column durable.ready.held_by is 'The shapes of the definitions that were found unable to go on with it; null when none was.';

drop index durable.ready_in_order;
create unique index ready_in_order on durable.ready (queue, priority desc, ready_at, execution_id) where held_by is null;
create index ready_held on durable.ready (queue, shape_id) where held_by is not null;
