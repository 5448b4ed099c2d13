-- 0004 Waiting: what is durable inside the body of one step.
-- Rewrites tables: no. Old workers: refused by the version of the schema.

alter table durable.journal
    add column key text,
    add constraint effects_have_a_key check ((kind in ('waiting', 'ran', 'tried')) = (key is not null)),
    drop constraint only_failures_have_an_error,
    add constraint only_failures_have_an_error check ((kind in ('failed', 'failing', 'tried')) = (error is not null));
comment on column durable.journal.key is 'Of an effect of a body: which one it is.';
