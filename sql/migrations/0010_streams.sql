-- 0010 Streams: what bodies tell while they run.
-- Rewrites tables: no. Old workers: refused by the version of the schema.

create table durable.stream (
    execution_id uuid        not null,
    position     bigint      not null generated always as identity,
    run          uuid        not null,
    number       int         not null,
    attempt      int         not null,
    sent_at      timestamptz not null,
    kind         text        not null,
    path         text        not null,
    message      text,
    value        json,
    primary key (execution_id, run, number),
    constraint kind_is_known check (kind in ('progress', 'chunk', 'log'))
);
comment on column durable.stream.run is 'The run of the body that has told it: what an earlier run of the step has told does not count any more.';
create unique index stream_in_order on durable.stream (execution_id, position);
