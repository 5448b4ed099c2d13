-- 0001 The foundation: executions, their journal, and the places where an execution can stand.
-- Rewrites tables: no (all are new). Old workers: there are none.
--
-- An execution stands in exactly one place: ready (to be claimed), claim (a worker runs it), wake (until a time), or it has
-- ended. Places are narrow tables that live by insert and delete; the wide execution row changes rarely and carries no index
-- on a column that changes, so that its updates stay HOT. Constraints are named as the laws they keep.

create schema if not exists durable;

create table durable.migration (
    version    int         not null primary key,
    name       text        not null,
    applied_at timestamptz not null
);

-- All time in SQL comes from here. Tests replace the body to move time. Stable, so that an index can be searched with it;
-- the start of the statement is never later than the moment at which a caller looks, so no lease or timer ends early.
create function durable.clock() returns timestamptz
    language sql stable parallel safe
    return statement_timestamp();

-- A column of a batch, which has as many rows as ids: one value stands for all of them. Inlined, and null if the column is left out.
create function durable.filled(given anyarray, ids uuid[]) returns anyarray
    language sql immutable parallel safe
as $$
    select case when cardinality(given) = 1 then array_fill(given[1], array[cardinality(ids)]) else given end
$$;

-- The one rule from a caller's id to a UUID: a canonical lower-case UUID is itself, anything else the first 16 bytes of
-- the SHA-256 of its UTF-8.
create function durable.execution_id(id text) returns uuid
    language sql immutable strict parallel safe
    return case
        when id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then id::uuid
        else encode(substring(sha256(convert_to(id, 'UTF8')) from 1 for 16), 'hex')::uuid
    end;

create table durable.shape (
    shape_id      bigint      not null primary key,
    workflow      text        not null,
    version       int         not null,
    tree          json        not null,
    queue         text        not null,
    priority      smallint    not null,
    timeout       float8,
    first_seen_at timestamptz not null,
    last_seen_at  timestamptz not null
);
comment on table durable.shape is 'The stored tree of one version of a workflow, its id the fingerprint, with the defaults of a start.';

create table durable.worker (
    worker_id        uuid        not null primary key,
    lease_expires_at timestamptz not null,
    dead             boolean     not null default false,
    signed_off       boolean     not null default false,
    started_at       timestamptz not null,
    host             text        not null,
    pid              int         not null
) with (fillfactor = 20);
comment on table durable.worker is 'One row a worker, renewed by HOT updates; a dead one is being reaped and may not renew.';

-- Domains in the two tables that every execution writes to, and not checks of the tables: PostgreSQL reads the text of a table's
-- checks anew for each statement, of a domain's once in a session. Of a statement for a single row that is a tenth of its work.
create domain durable.execution_status as text
    constraint status_is_known check (value in ('pending', 'waiting', 'compensating', 'completed', 'failed', 'cancelled', 'compensated',
        'compensation_failed'));
create domain durable.record_kind as text
    constraint kind_is_known check (value in ('completed', 'failed', 'started', 'chosen', 'items', 'iterated', 'failing', 'waiting', 'ran', 'tried',
        'answered', 'expired', 'continued', 'retried', 'forked'));

create table durable.execution (
    execution_id uuid        not null primary key,
    shape_id     bigint      not null,
    started_by   uuid        not null,
    released_by  uuid,
    created_at   timestamptz not null,
    due_at       timestamptz not null,
    deadline_at  timestamptz,
    ended_at     timestamptz,
    version      int         not null,
    result_seq   int,
    priority     smallint    not null,
    status       durable.execution_status not null,
    workflow     text        not null,
    queue        text        not null,
    name         text,
    reason       text,
    tags         jsonb,
    error        json,
    watchers     uuid[],
    input        json        not null,
    constraint only_the_ended_have_an_end check ((ended_at is null) = (status in ('pending', 'waiting', 'compensating')))
) with (fillfactor = 50);
comment on column durable.execution.name is 'The id as the caller gave it; null when it was generated, or is a UUID itself.';
comment on column durable.execution.started_by is 'The operation that created it: a start that is sent again finds itself.';
comment on column durable.execution.released_by is 'The claim or operation that last ended or suspended it, found by one sent again.';
comment on column durable.execution.result_seq is 'The journal record that holds the result; 0 is the input.';
comment on column durable.execution.watchers is 'Processes that wait for the result and are notified of the end.';
create index execution_by_tags on durable.execution using gin (tags jsonb_path_ops) where tags is not null;

create table durable.ready (
    execution_id uuid        not null primary key,
    ready_at     timestamptz not null,
    shape_id     bigint      not null,
    priority     smallint    not null,
    crashes      smallint    not null,
    begun        boolean     not null,
    queue        text        not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
comment on column durable.ready.crashes is 'Crashes of workers that it was in flight in, since its last record.';
comment on column durable.ready.begun is 'Whether it was ever claimed, and so may have a journal to read.';
create unique index ready_in_order on durable.ready (queue, priority desc, ready_at, execution_id);
create index ready_suspects on durable.ready (queue, ready_at) where crashes >= 2;

create table durable.claim (
    execution_id uuid        not null primary key,
    owner        uuid        not null,
    token        uuid        not null,
    claimed_at   timestamptz not null,
    crashes      smallint    not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
comment on table durable.claim is 'At most one a execution (its key): the token is the fence that every write must show.';
create index claim_by_owner on durable.claim (owner);

create table durable.wake (
    execution_id uuid        not null primary key,
    due_at       timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
comment on table durable.wake is 'When an execution that sleeps is to be looked at next.';
create index wake_by_time on durable.wake (due_at);

create table durable.journal (
    execution_id uuid        not null,
    seq          int         not null,
    attempt      int         not null,
    recorded_at  timestamptz not null,
    run_at       timestamptz,
    worker_id    uuid        not null,
    seconds      real        not null,
    kind         durable.record_kind not null,
    path         text        not null,
    value        json,
    error        json,
    primary key (execution_id, seq),
    constraint only_failures_have_an_error check ((kind = 'failed') = (error is not null))
);
comment on table durable.journal is 'What has happened, append only, in order of seq within an execution.';
comment on column durable.journal.value is 'The result; null when the step returned None and the data goes on unchanged.';
comment on column durable.journal.run_at is 'When the next attempt is due; null on a failure that is final.';

create table durable.ended (
    created_at   timestamptz not null,
    ended_at     timestamptz not null,
    execution_id uuid        not null,
    workflow     text        not null,
    status       text        not null
);
comment on table durable.ended is 'A narrow copy of what has ended, for lists and retention; indexed so that the wide row need not be.';
create unique index ended_by_creation on durable.ended (workflow, status, created_at desc, execution_id);
create index ended_by_end on durable.ended using brin (ended_at);
