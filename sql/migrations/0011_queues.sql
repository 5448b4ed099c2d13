-- 0011 Queues: their limits, and executions under keys that take turns.
-- Rewrites tables: ready (narrow, and short). Old workers: refused by the version of the schema.
--
-- What may be taken up is granted under the locked row of the queue, and what is taken up is counted where it stands: a claim is
-- its own grant, so that whatever takes a claim away gives the grant back. Nothing is locked, and nothing more written, for queues
-- without limits.

create table durable.queue (
    queue              text        not null primary key,
    declared_at        timestamptz not null,
    global_concurrency int,
    rate_limit         int,
    rate_seconds       float8,
    per_key            int,
    max_depth          int,
    keyed              boolean     not null,
    paused             boolean     not null,
    paused_at          timestamptz,
    pause_reason       text,
    paused_by          text,
    last_key           text        not null default '' collate "C",
    limited            boolean     not null generated always as (keyed or paused or global_concurrency is not null or rate_limit is not null) stored
) with (fillfactor = 50);
comment on table durable.queue is 'Queues that were declared with limits, or paused; the others have none.';
comment on column durable.queue.keyed is 'Whether what is in it takes turns by key. Stays true once it was: what was started under a key must be found by it.';
comment on column durable.queue.last_key is 'The key whose turn it was last.';

create table durable.permit (
    queue      text        not null,
    token      uuid        not null,
    granted_at timestamptz not null,
    count      int         not null,
    primary key (queue, token)
);
comment on table durable.permit is 'What was taken up from queues with a rate, for as long as it counts.';
create index permit_by_time on durable.permit (queue, granted_at);

alter table durable.execution add column key text not null default '' collate "C";
comment on column durable.execution.key is 'With whom it takes turns, in a queue with keys.';

-- The order in a queue: who has waited longest, where a point of priority is worth a minute. So everybody ages alike, the order of two
-- never changes, and nobody waits for ever. An interval, since a difference of instants is immutable, as a generated column must be.
alter table durable.ready
    add column key text not null default '' collate "C",
    add column rank interval not null generated always as (ready_at - timestamptz '2000-01-01 00:00:00+00' - priority * interval '1 minute') stored;

drop index durable.ready_in_order;
create unique index ready_in_order on durable.ready (queue, key, rank, execution_id) where held_by is null;

alter table durable.claim
    add column queue text,
    add column key text not null default '' collate "C";
comment on column durable.claim.queue is 'Of what counts against the limits of its queue.';
create index ready_held_by_key on durable.ready (queue, key) where held_by is not null;

create index claim_by_queue on durable.claim (queue, key) where queue is not null;

-- How many executions of queues may be taken up now, by key: all that are wanted, of queues without limits. Those with limits stay locked
-- until the end of the transaction. What counts was committed before the lock was had, so that it needs statements of its own.
create function durable.grant(queues text[], wants int[], shapes bigint[], held boolean[], suspects int, known bigint[], own bigint[])
    returns table (queue text, key text, allowed int, limited boolean, rated boolean, granted_at timestamptz)
    language plpgsql rows 10
as $$
#variable_conflict use_variable
declare
    want     record;
    q        durable.queue;
    room     int;
    cap      int;
    found    text[];
    caps     int[];
    shares   int[];
    place    text;
    this     text;
    around   boolean;
    seen     int;
    most     int;
begin
    for want in select w.queue, w.count, w.held from unnest(queues, wants, held) as w(queue, count, held) where w.count > 0 order by w.queue loop
        queue := want.queue; key := ''; allowed := want.count; limited := false; rated := false;
        granted_at := durable.clock();
        select x.* into q from durable.queue x where x.queue = want.queue;
        if q.limited is not true then
            return next;
            continue;
        end if;
        -- Nothing is locked, and so nothing written, where there is nothing to be granted.
        continue when q.paused or not exists (
            select from durable.ready r where r.queue = want.queue and r.held_by is null and r.shape_id = any (shapes)
            union all
            select from durable.ready r where r.queue = want.queue and r.held_by is not null and want.held and r.shape_id = any (shapes)
        );
        select x.* into q from durable.queue x where x.queue = want.queue for update;
        limited := true;
        continue when q.paused;
        if q.global_concurrency is not null then
            allowed := least(allowed, q.global_concurrency - (select count(*) from durable.claim c where c.queue = want.queue));
        end if;
        if q.rate_limit is not null then
            rated := true;
            -- The time at which the lock was had: by that of the statement, a grant would leave the window before it is as old as that.
            granted_at := durable.clock() + (clock_timestamp() - statement_timestamp());
            delete from durable.permit p where p.queue = want.queue and p.granted_at <= granted_at - make_interval(secs => q.rate_seconds);
            allowed := least(allowed, q.rate_limit - (select coalesce(sum(p.count), 0) from durable.permit p where p.queue = want.queue));
        end if;
        continue when allowed <= 0;
        if not q.keyed then
            return next;
            continue;
        end if;

        -- Keys take turns, from the one after the last: those that have something ready and are below their limit.
        found := '{}'; caps := '{}'; shares := '{}'; place := q.last_key || chr(1); around := false; seen := 0;
        while cardinality(found) < allowed and seen < 1000 loop
            select r.key into this
              from durable.ready r
             where r.queue = want.queue and r.key >= place and r.held_by is null and r.shape_id = any (shapes) and (r.crashes < 2 or suspects > 0)
             order by r.queue, r.key
             limit 1;
            if want.held then
                -- As `claim/take` takes of what is held: what can go on here, is paused no more, or is over its deadline.
                this := least(this, (
                    select r.key
                      from durable.ready r
                      join durable.execution e on e.execution_id = r.execution_id
                     where r.queue = want.queue and r.key >= place and r.held_by is not null and r.shape_id = any (shapes)
                       and (r.crashes < 2 or suspects > 0)
                       and (e.paused and e.undo is null and e.status <> 'compensating' and (e.deadline_at is null or e.deadline_at > durable.clock())) is not true
                       and (r.shape_id = any (known) or not r.held_by && own or (r.ready_at < e.deadline_at and e.deadline_at <= durable.clock()))
                     order by r.queue, r.key
                     limit 1
                ));
            end if;
            if this is null then
                exit when around;
                around := true;
                place := '';
                continue;
            end if;
            exit when around and this > q.last_key;
            seen := seen + 1;
            place := this || chr(1);
            room := allowed;
            if q.per_key is not null then
                room := least(room, q.per_key - (select count(*) from durable.claim c where c.queue = want.queue and c.key = this));
            end if;
            if room > 0 then
                cap := (
                    select count(*)
                      from (select from durable.ready r
                             where r.queue = want.queue and r.key = this and r.held_by is null and r.shape_id = any (shapes)
                               and (r.crashes < 2 or suspects > 0)
                             limit room) as some_of_it
                );
                if want.held and cap < room then
                    cap := cap + (
                        select count(*)
                          from (select from durable.ready r
                                  join durable.execution e on e.execution_id = r.execution_id
                                 where r.queue = want.queue and r.key = this and r.held_by is not null and r.shape_id = any (shapes)
                                   and (r.crashes < 2 or suspects > 0)
                                   and (e.paused and e.undo is null and e.status <> 'compensating' and (e.deadline_at is null or e.deadline_at > durable.clock())) is not true
                                   and (r.shape_id = any (known) or not r.held_by && own or (r.ready_at < e.deadline_at and e.deadline_at <= durable.clock()))
                                 limit room - cap) as some_of_it
                    );
                end if;
                found := found || this; caps := caps || cap; shares := shares || 0;
            end if;
        end loop;
        room := allowed;
        while room > 0 loop
            most := room;
            for i in 1 .. cardinality(found) loop
                if shares[i] < caps[i] and room > 0 then
                    shares[i] := shares[i] + 1;
                    room := room - 1;
                    this := found[i];
                end if;
            end loop;
            exit when room = most;
        end loop;
        if room < allowed or seen = 1000 then
            update durable.queue x set last_key = coalesce(this, place) where x.queue = want.queue;
        end if;
        for i in 1 .. cardinality(found) loop
            if shares[i] > 0 then
                key := found[i]; allowed := shares[i];
                return next;
            end if;
        end loop;
    end loop;
end;
$$;
