-- 0007 Children: executions that others have started, and those that are to be cancelled with them.
-- Rewrites tables: no. Old workers: refused by the version of the schema.
--
-- A child's end is a message to its parent, in the transaction that ends it. That of one which was only started brings nothing, for its
-- result may never be read: it counts as consumed, and wakes who waits for it. What is to be cancelled because of another execution is
-- put down in the transaction that decides so, and cancelled in transactions of its own.

alter table durable.execution
    add column parent_id uuid,
    add column called boolean not null default false,
    add column given_up boolean not null default false;
comment on column durable.execution.parent_id is 'The execution that has started it; never changes.';
comment on column durable.execution.called is 'Whether its parent waits for it, and is told its result.';
comment on column durable.execution.given_up is 'Whether its parent has recorded that it did not end in time: it completes no more.';
create index execution_children on durable.execution (parent_id, execution_id) where parent_id is not null;

create table durable.doomed (
    execution_id uuid        not null primary key,
    doomed_at    timestamptz not null,
    undo         boolean     not null,
    reason       text        not null
);
comment on table durable.doomed is 'What is to be cancelled, with compensation if undo says so.';
create index doomed_in_order on durable.doomed (doomed_at, execution_id);
