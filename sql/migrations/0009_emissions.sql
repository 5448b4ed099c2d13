-- 0009 Emissions: events without an address, for whoever waits for what is in them.
-- Rewrites tables: no. Old workers: refused by the version of the schema.
--
-- An emission and a wait for it meet under the lock of their topic: whoever comes second sees the first. What an emission matches is
-- posted, and delivered like all that is posted, so that nobody holds a topic while he waits for an execution.

create table durable.topic (
    name text not null primary key
);
comment on table durable.topic is 'Names of events that are emitted or waited for by what is in them: rows to be locked.';

create table durable.keyset (
    topic  text   not null,
    keyset text[] not null,
    primary key (topic, keyset)
);
comment on table durable.keyset is 'By which keys waits for a topic have matched, ever: an emission is looked up once for each.';

create table durable.subscription (
    execution_id uuid        not null,
    seq          int         not null,
    since        timestamptz,
    known        pg_snapshot not null,
    topic        text        not null,
    keyset       text[]      not null,
    digest       text        not null,
    primary key (execution_id, seq)
);
comment on column durable.subscription.known is 'What was committed before it: that is not for it, unless it looks back.';
comment on column durable.subscription.since is 'Until when it looks back; null when it does not.';
create index subscription_by_match on durable.subscription (topic, keyset, digest);

create table durable.emission (
    emission_id bigint      not null generated always as identity primary key,
    operation   uuid        not null,
    emitted_at  timestamptz not null,
    emitted_by  xid8        not null default pg_current_xact_id(),
    spread      boolean     not null default false,
    topic       text        not null,
    keys        jsonb       not null,
    payload     json        not null
);
comment on column durable.emission.keys is 'What waits can match: the texts, numbers and truths directly in the payload.';
create unique index emission_once on durable.emission (operation);
create index emission_to_spread on durable.emission (emission_id) where not spread;
create index emission_of_topic on durable.emission (topic, emission_id) where spread;
create index emission_by_age on durable.emission (emitted_at) where spread;

create index posted_of_execution on durable.posted (execution_id);

-- The values under some keys, in the order of the keys, as one short text.
create function durable.digest(keys jsonb, keyset text[])
    returns text
    language sql immutable parallel safe
as $$ select md5((select coalesce(string_agg(case jsonb_typeof(keys -> k) when 'number' then trim_scale((keys ->> k)::numeric)::text else (keys -> k)::text end, ',' order by n), '')
                         from unnest(keyset) with ordinality as g(k, n))) $$;

-- What of a payload can be matched: nothing when there is a NUL in it, which jsonb cannot hold.
create function durable.keys_of(payload json)
    returns jsonb
    language sql immutable parallel safe
as $$
    select case when json_typeof(payload) = 'object' and payload::text !~ '\\u0000'
                then coalesce((select jsonb_object_agg(e.key, e.value) from jsonb_each(payload::jsonb) e
                                where jsonb_typeof(e.value) in ('string', 'number', 'boolean')), '{}')
                else '{}' end
$$;

-- Emit an event in the transaction that is open, from any language.
create function durable.emit(name text, payload json default 'null', notify boolean default true)
    returns void
    language plpgsql
as $$
begin
    if name is null or name = '' or length(name) > 200 then
        raise exception 'durable: the name of an event has 1 to 200 characters, this one has %', coalesce(length(name), 0) using errcode = 'invalid_parameter_value';
    end if;
    insert into durable.emission (operation, emitted_at, topic, keys, payload)
    values (gen_random_uuid(), durable.clock(), name, durable.keys_of(coalesce(payload, 'null')), coalesce(payload, 'null'));
    if notify then
        perform pg_notify('durable_ready', '*');
    end if;
end;
$$;

-- Lock topics, which may be new, in one order.
create function durable.lock_topics(names text[])
    returns void
    language plpgsql
as $$
begin
    insert into durable.topic (name) select distinct g.name from unnest(names) as g(name) order by g.name on conflict do nothing;
    perform from (select distinct g.name from unnest(names) as g(name) order by g.name) as g
      cross join lateral (select from durable.topic t where t.name = g.name for update) t;
end;
$$;

-- Find who waits for what was emitted, in the order in which it was, and post it to them. Each wait gets one emission. Returns how many
-- were looked at. What is older than an hour is forgotten.
create function durable.spread(most int)
    returns int
    language plpgsql
as $$
declare
    taken bigint[];
    names text[];
    one record;
begin
    select array_agg(e.emission_id), array_agg(e.topic) into taken, names
      from (select e.emission_id, e.topic from durable.emission e where not e.spread order by e.emission_id limit most for update) as e;
    if taken is null then
        return 0;
    end if;
    perform durable.lock_topics(names);
    for one in select e.* from durable.emission e where e.emission_id = any (taken) order by e.emission_id loop
        with matching as materialized (
            select k.keyset, durable.digest(one.keys, k.keyset) as digest from durable.keyset k where k.topic = one.topic and one.keys ?& k.keyset
        ), found as (
            delete from durable.subscription s
             using matching m
             where s.topic = one.topic and s.keyset = m.keyset and s.digest = m.digest
               and (not pg_visible_in_snapshot(one.emitted_by, s.known) or s.since <= one.emitted_at)
            returning s.execution_id, s.seq
        )
        insert into durable.posted (execution_id, topic, once, payload)
        select f.execution_id, 'match:' || f.seq || ':' || one.topic, 'm:' || f.seq, one.payload from found f;
    end loop;
    update durable.emission set spread = true where emission_id = any (taken);
    delete from durable.emission where emission_id in (
        select e.emission_id from durable.emission e where e.spread and e.emitted_at < durable.clock() - interval '1 hour' order by e.emitted_at limit 2 * most);
    return cardinality(taken);
end;
$$;

-- Record waits for what is in events, each under its claim. One for which something was emitted a moment before is posted that at once.
-- Several statements, for the last must see what was emitted while the topics were waited for.
create function durable.subscribe(ids uuid[], tokens uuid[], seqs int[], paths text[], attempts int[], delays float8[], keys text[],
                                  names text[], matches text[], lookbacks float8[], worker_id uuid)
    returns table (n bigint, posted boolean)
    language plpgsql
as $$
#variable_conflict use_column
begin
    perform durable.lock_topics(names);
    return query
    with given as materialized (
        select g.*, array(select k from jsonb_object_keys(g.match::jsonb) k order by k) as keyset
          from unnest(ids, tokens, seqs, paths, attempts, delays, keys, names, matches, lookbacks) with ordinality
               as g(execution_id, token, seq, path, attempt, delay, key, name, match, lookback, n)
    ), held as materialized (
        select g.*
          from given g
         cross join lateral (
               select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
         ) c
    ), recorded as (
        insert into durable.journal as j (execution_id, seq, attempt, recorded_at, run_at, worker_id, seconds, kind, path, key)
        select execution_id, seq, attempt, durable.clock(), durable.clock() + make_interval(secs => delay), $11, 0, 'waiting', path, key
          from held
            on conflict (execution_id, seq) do nothing
        returning execution_id, seq
    ), judged as materialized (
        select h.*, (h.execution_id, h.seq) in (select execution_id, seq from recorded) as written from held h
    ), fresh as materialized (
        select h.*, e.payload
          from judged h
          left join lateral (
               select e.payload
                 from durable.emission e
                where e.topic = h.name and e.spread and h.lookback is not null and e.emitted_at >= durable.clock() - make_interval(secs => h.lookback)
                  and e.keys @> h.match::jsonb
                order by e.emission_id
                limit 1
          ) e on true
         where h.written
    ), known as (
        insert into durable.keyset (topic, keyset) select distinct name, keyset from fresh order by name, keyset on conflict do nothing
    ), subscribed as (
        insert into durable.subscription (execution_id, seq, since, known, topic, keyset, digest)
        select execution_id, seq, durable.clock() - make_interval(secs => lookback), pg_current_snapshot(), name, keyset, durable.digest(match::jsonb, keyset)
          from fresh
         where payload is null
    ), sent as (
        insert into durable.posted (execution_id, topic, once, payload)
        select execution_id, 'match:' || seq || ':' || name, 'm:' || seq, payload from fresh where payload is not null
    )
    select f.n, f.payload is not null from fresh f
    union all
    select h.n, null
      from judged h
     where not h.written
       and exists (select from durable.journal j
                    where j.execution_id = h.execution_id and j.seq = h.seq and (j.path, j.kind, j.attempt, j.key) = (h.path, 'waiting', h.attempt, h.key) offset 0);
end;
$$;

-- Record that nothing that matches was emitted in time, each under its claim, and stop to wait for it; unless something was: what
-- was found for it and is on its way, or was emitted and is not spread yet, is its answer.
create function durable.unsubscribe(ids uuid[], tokens uuid[], seqs int[], paths text[], attempts int[], errors json[], keys text[],
                                    subscribed int[], worker_id uuid)
    returns table (n bigint, answered boolean)
    language plpgsql
as $$
#variable_conflict use_column
begin
    perform durable.lock_topics(array(
        select s.topic from unnest(ids, subscribed) as g(execution_id, subscribed)
          join durable.subscription s on s.execution_id = g.execution_id and s.seq = g.subscribed));
    return query
    with given as materialized (
        select * from unnest(ids, tokens, seqs, paths, attempts, errors, keys, subscribed) with ordinality
                      as g(execution_id, token, seq, path, attempt, error, key, subscribed, n)
    ), held as materialized (
        select g.*
          from given g
         cross join lateral (
               select from durable.claim c where c.execution_id = g.execution_id and c.token = g.token for key share
         ) c
    ), judged as materialized (
        select h.*,
               not exists (select from durable.journal j
                            where j.execution_id = h.execution_id and j.seq = h.seq and (j.path, j.kind, j.attempt, j.key) = (h.path, 'expired', h.attempt, h.key) offset 0)
               and (exists (select from durable.message m where m.execution_id = h.execution_id and m.once = 'm:' || h.subscribed and m.consumed_by is null offset 0)
                    or exists (select from durable.posted p where p.execution_id = h.execution_id and p.once = 'm:' || h.subscribed and p.refused is null offset 0)
                    or exists (select from durable.subscription s
                                 join durable.emission e on e.topic = s.topic and not e.spread
                                where s.execution_id = h.execution_id and s.seq = h.subscribed
                                  and e.keys ?& s.keyset and durable.digest(e.keys, s.keyset) = s.digest
                                  and (not pg_visible_in_snapshot(e.emitted_by, s.known) or s.since <= e.emitted_at)
                                offset 0)) as answered
          from held h
    ), recorded as (
        insert into durable.journal as j (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, error, key)
        select execution_id, seq, attempt, durable.clock(), $9, 0, 'expired', path, error, key
          from judged
         where not answered
            on conflict (execution_id, seq) do nothing
    ), unsubscribed as (
        delete from durable.subscription s using judged h where not h.answered and s.execution_id = h.execution_id and s.seq = h.subscribed
    )
    select j.n, j.answered from judged j;
end;
$$;
