-- 0007 Children: executions that others have started, and those that are to be cancelled with them.
-- Rewrites tables: no. Old workers: refused by the version of the schema.
--
-- A child's end is a message to its parent, in the transaction that ends it. What is to be cancelled because of another execution is
-- put down in the transaction that decides so, and cancelled in transactions of its own.

alter table durable.execution add column parent_id uuid;
comment on column durable.execution.parent_id is 'The execution that has started it; never changes.';
create index execution_children on durable.execution (parent_id, execution_id) where parent_id is not null;

create table durable.doomed (
    execution_id uuid        not null primary key,
    doomed_at    timestamptz not null,
    undo         boolean     not null,
    reason       text        not null
);
comment on table durable.doomed is 'What is to be cancelled, with compensation if undo says so.';
create index doomed_in_order on durable.doomed (doomed_at, execution_id);
