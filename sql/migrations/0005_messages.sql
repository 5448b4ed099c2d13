-- 0005 Messages: what is sent to an execution, kept until its owner consumes it.
-- Rewrites tables: no. Old workers: refused by the version of the schema.
--
-- Messages of an execution are numbered under the lock of its row, so that its count tells whoever puts it to sleep whether one
-- has come that it has not seen. The sender never consumes, the owner never numbers.

create table durable.message (
    execution_id uuid        not null,
    number       int         not null,
    consumed_by  int,
    sent_at      timestamptz not null,
    topic        text        not null,
    once         text        not null,
    payload      json,
    primary key (execution_id, number)
);
comment on column durable.message.topic is 'What is waited for: event:<name>.';
comment on column durable.message.once is 'The operation, or the key of the sender, that this message was sent under: it is not sent twice.';
comment on column durable.message.consumed_by is 'The journal record that holds it now.';
create unique index message_once on durable.message (execution_id, once);
create index message_unread on durable.message (execution_id, number) where consumed_by is null;

alter table durable.execution add column mail int not null default 0;
comment on column durable.execution.mail is 'The number of its latest message.';

alter table durable.wake add column topics text[];
comment on column durable.wake.topics is 'The messages that wake it before its time.';

alter table durable.journal
    drop constraint effects_have_a_key,
    add constraint effects_have_a_key check ((kind in ('waiting', 'ran', 'tried', 'answered', 'expired')) = (key is not null)),
    drop constraint only_failures_have_an_error,
    add constraint only_failures_have_an_error check (case kind when 'expired' then true else (kind in ('failed', 'failing', 'tried')) = (error is not null) end);

-- Send messages to executions: number them, and make ready whom they wake. Several statements, for each sees what was committed while
-- the one before it waited for a lock. One without a payload only wakes. Whoever was started after the first of them is not locked, and is not known.
create function durable.deliver(ids uuid[], topics text[], onces text[], payloads text[])
    returns table (n bigint, outcome text, queue text)
    language plpgsql
as $$
#variable_conflict use_column
declare
    found_ones bigint[];
begin
    found_ones := array(
        select g.n
          from unnest(ids) with ordinality as g(execution_id, n)
         cross join lateral (select from durable.execution e where e.execution_id = g.execution_id for no key update) e
    );
    return query
    with given as materialized (
        select g.*, e.known, e.over, e.mail, e.queue,
               exists (select from durable.message m where m.execution_id = g.execution_id and m.once = g.once offset 0) as before,
               row_number() over (partition by g.execution_id, g.once order by g.n) > 1 as again
          from (
               select u.*, u.n in (select unnest(found_ones)) as found
                 from unnest(ids, topics, onces, payloads) with ordinality as u(execution_id, topic, once, payload, n)
               offset 0
          ) g
          left join lateral (
               select true as known, e.ended_at is not null as over, e.mail, e.queue
                 from durable.execution e
                where e.execution_id = g.execution_id and g.found
               offset 0
          ) e on true
    ), judged as materialized (
        select g.*, case when known is null then 'unknown' when before then 'duplicate' when over then 'ended' when again then 'duplicate' else 'sent' end as outcome
          from given g
    ), numbered as materialized (
        select j.*, mail + row_number() over (partition by execution_id order by n) as number from judged j where j.outcome = 'sent'
    ), inserted as (
        insert into durable.message (execution_id, number, consumed_by, sent_at, topic, once, payload)
        select execution_id, number, case when payload is null then 0 end, durable.clock(), topic, once, payload::json from numbered
    ), woken as materialized (
        select distinct w.execution_id
          from numbered f
          join durable.wake w on w.execution_id = any (array[f.execution_id])
         where f.topic = any (w.topics)
    ), removed as (
        delete from durable.wake where execution_id = any (array(select execution_id from woken))
    ), changed as (
        update durable.execution e
           set mail = s.number, status = case when e.status = 'waiting' and s.woken then 'pending' else e.status end
          from (select execution_id, max(number) as number, execution_id in (select execution_id from woken) as woken from numbered group by execution_id) s
         where e.execution_id = any (array[s.execution_id])
        returning e.execution_id, e.shape_id, e.priority, e.queue, e.key, s.woken
    ), readied as (
        insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
        select execution_id, durable.clock(), shape_id, priority, 0, true, queue, key from changed where woken
    )
    select j.n, j.outcome,
           -- Sent again: whether it woke anybody the first time, and whether that was told, is not known.
           case when j.outcome = 'duplicate' or j.execution_id in (select execution_id from changed where woken) then j.queue end
      from judged j;
end;
$$;

-- Events that were sent within somebody's transaction. They are delivered after its commit: until then its locks would hold up
-- whoever else writes to the execution.
create table durable.posted (
    post_id      bigint      not null generated always as identity primary key,
    execution_id uuid        not null,
    topic        text        not null,
    once         text        not null,
    refused      text,
    payload      json        not null
);
comment on column durable.posted.refused is 'Why it could not be delivered, and is not tried again: null but for faults of ours.';

-- What keeps an event from being sent twice: the sender's key, under its name, else this very call.
create function durable.once_of(name text, dedupe_key text)
    returns text
    language sql
as $$ select case when dedupe_key is null then 'o:' || gen_random_uuid() else 'k:' || length(name) || ':' || name || ':' || dedupe_key end $$;

-- Post an event in the transaction that is open: sent, duplicate, ended or unknown.
create function durable.post_event(id text, name text, payload json, dedupe_key text, notify boolean)
    returns text
    language plpgsql
as $$
#variable_conflict use_variable
declare
    target uuid := durable.execution_id(id);
    the_once text := durable.once_of(name, dedupe_key);
    over boolean;
begin
    if name is null or name = '' or length(name) > 200 then
        raise exception 'durable: the name of an event has 1 to 200 characters, this one has %', coalesce(length(name), 0) using errcode = 'invalid_parameter_value';
    end if;
    if dedupe_key = '' or length(dedupe_key) > 200 then
        raise exception 'durable: a dedupe_key has 1 to 200 characters, this one has %', length(dedupe_key) using errcode = 'invalid_parameter_value';
    end if;
    select e.ended_at is not null into over from durable.execution e where e.execution_id = target;
    if over is null then
        return 'unknown';
    end if;
    if exists (select from durable.message m where m.execution_id = target and m.once = the_once) then
        return 'duplicate';
    end if;
    if over then
        return 'ended';
    end if;
    insert into durable.posted (execution_id, topic, once, payload) values (target, 'event:' || name, the_once, coalesce(payload, 'null'));
    if notify then
        perform pg_notify('durable_ready', '*');
    end if;
    return 'sent';
end;
$$;

-- Send an event in the transaction that is open, from any language. False when it was sent before.
create function durable.send_event(id text, name text, payload json default 'null', dedupe_key text default null, notify boolean default true)
    returns boolean
    language plpgsql
as $$
begin
    case durable.post_event(id, name, payload, dedupe_key, notify)
        when 'sent' then
            return true;
        when 'duplicate' then
            return false;
        when 'unknown' then
            raise exception 'durable: there is no execution "%"', id using errcode = 'no_data_found';
        else
            raise exception 'durable: execution "%" has ended and takes no more events', id using errcode = 'object_not_in_prerequisite_state';
    end case;
end;
$$;
