-- 0013 Retention: the ids of executions that were deleted.
-- Rewrites tables: no. Old workers: refused by the version of the schema.

create table durable.kept (
    execution_id uuid        not null primary key,
    ended_at     timestamptz not null,
    workflow     text        not null
);
comment on table durable.kept is 'Executions that were deleted, whose ids do not start again for a while.';
create index kept_by_end on durable.kept (ended_at);

-- Looks again, after ids were inserted, whether one of them was being deleted: the insert has waited for that, and its statement does not
-- see what was kept of it. Then the statement fails, and sees it when it is sent again.
create function durable.refuse_kept(ids uuid[]) returns bool
    language plpgsql
as $$
begin
    if exists (select from durable.kept k where k.execution_id = any (ids)) then
        raise exception 'durable: this id is being deleted' using errcode = 'serialization_failure', hint = 'Try again: then it is known.';
    end if;
    return true;
end;
$$;
