-- 0013 Retention: the ids of executions that were deleted.
-- Rewrites tables: no. Old workers: refused by the version of the schema.

create table durable.kept (
    execution_id uuid        not null primary key,
    ended_at     timestamptz not null,
    workflow     text        not null
);
comment on table durable.kept is 'Executions that were deleted, whose ids do not start again for a while.';
create index kept_by_end on durable.kept (ended_at);
