-- 0012 Acts: what people do to executions, pauses, and executions that are retried.
-- Rewrites tables: no. Old workers: refused by the version of the schema.

alter table durable.execution add column paused boolean not null default false;
comment on column durable.execution.paused is 'Whether nothing new of it may begin, until it is resumed. Its ending and its deadline do not heed it.';

comment on column durable.ready.held_by is 'The shapes of the definitions that were found unable to go on with it; none of what is paused; null when it may be taken up.';

create table durable.act (
    execution_id uuid        not null,
    operation    uuid        not null,
    acted_at     timestamptz not null,
    kind         text        not null,
    acted_by     text,
    reason       text,
    details      jsonb,
    primary key (execution_id, operation)
);
comment on table durable.act is 'Who did what to an execution, when, and why. An act that is sent again finds itself here.';
create index act_in_order on durable.act (acted_at desc, execution_id, operation);
