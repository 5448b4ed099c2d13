-- 0014 Schedules: rules that start executions.
-- Rewrites tables: no. Old workers: refused by the version of the schema.
--
-- A schedule is a row, and a firing its advance by one statement, a compare-and-set on the revision, that also starts the execution. Its id is
-- made of the name of the schedule and the instant. When it fires next is reckoned by workers: SQL compares instants, and knows no rules.

create table durable.schedule (
    name              text        not null primary key,
    revision          bigint      not null,
    created_at        timestamptz not null,
    created_by        uuid        not null,
    changed_at        timestamptz not null,
    changed_by        uuid        not null,
    handled_at        timestamptz not null,
    next_at           timestamptz,
    due_at            timestamptz,
    last_at           timestamptz,
    last_execution_id uuid,
    skipped           bigint      not null default 0,
    catch_up_window   float8,
    jitter            float8,
    version           int         not null,
    priority          smallint,
    paused            boolean     not null default false,
    workflow          text        not null,
    overlap           text        not null,
    catch_up          text        not null,
    queue             text,
    declaration       text,
    paused_by         text,
    paused_reason     text,
    queued            timestamptz[] not null default '{}',
    tags              jsonb,
    rule              json        not null,
    input             json        not null,
    constraint overlap_is_known check (overlap in ('skip', 'allow', 'queue', 'cancel_previous')),
    constraint catch_up_is_known check (catch_up in ('latest', 'all', 'none')),
    constraint the_paused_are_not_due check (not paused or due_at is null)
);
comment on column durable.schedule.revision is 'Goes up with every change and every firing: whoever decides about it shows the one that he has seen.';
comment on column durable.schedule.created_by is 'The operation that created it: one that is sent again finds itself. Likewise changed_by.';
comment on column durable.schedule.handled_at is 'Until when it was decided about its instants.';
comment on column durable.schedule.next_at is 'The first instant that nothing was decided about; null when the rule has no more.';
comment on column durable.schedule.due_at is 'When that is to fire: later by its share of the jitter; null while it is paused.';
comment on column durable.schedule.last_at is 'The last instant for which an execution was started, which is last_execution_id.';
comment on column durable.schedule.skipped is 'Firings that were left out because of the one before.';
comment on column durable.schedule.queued is 'Instants that wait for the last execution to end, in order.';
comment on column durable.schedule.version is 'The version of the workflow that it was made for: workers that know only older ones leave it.';
comment on column durable.schedule.declaration is 'Which declaration in code it is by; null for one that was made by a call.';
create index schedule_by_time on durable.schedule (due_at) where due_at is not null;
create index schedule_queued on durable.schedule (name) where queued <> '{}' and not paused;

create table durable.schedule_declaration (
    name          text        not null,
    declaration   text        not null,
    first_seen_at timestamptz not null,
    last_seen_at  timestamptz not null,
    primary key (name, declaration)
);
comment on table durable.schedule_declaration is 'Digests of what code has declared, ever: the newest of those that a worker still declares counts.';
