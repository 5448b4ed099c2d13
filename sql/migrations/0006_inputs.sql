-- 0006 Inputs: what executions ask people, and who answered when.
-- Rewrites tables: no. Old workers: refused by the version of the schema.
--
-- An answer is a message like any other, on a topic of its request alone: so it reaches this wait and no other.

create table durable.input (
    execution_id uuid        not null,
    seq          int         not null,
    reminded     int         not null default 0,
    requested_at timestamptz not null,
    due_at       timestamptz,
    remind_at    timestamptz,
    closed_at    timestamptz,
    operation    uuid,
    remind_every interval,
    status       text        not null default 'pending',
    name         text        not null,
    kind         text        not null,
    workflow     text        not null,
    path         text        not null,
    answered_by  text,
    request      json        not null,
    answer       json,
    primary key (execution_id, seq),
    constraint status_is_known check (status in ('pending', 'answered', 'expired', 'withdrawn')),
    constraint kind_is_known check (kind in ('approval', 'choice', 'text', 'form')),
    constraint only_the_pending_are_open check ((status = 'pending') = (closed_at is null)),
    constraint only_answers_answer check ((status = 'answered') = (operation is not null and answer is not null))
);
comment on column durable.input.seq is 'The journal record that has asked.';
comment on column durable.input.operation is 'The call that has answered.';
comment on column durable.input.request is 'Prompt, choices, fields, schema and metadata, as the codec writes them.';
create index input_pending on durable.input (requested_at, execution_id, seq) where status = 'pending';
create index input_reminders on durable.input (remind_at) where status = 'pending' and remind_at is not null;

-- Answer requests that are pending, each with a message to who has asked. Like durable.deliver otherwise.
create function durable.answer(ids uuid[], seqs int[], operations uuid[], payloads text[], answerers text[])
    returns table (n bigint, outcome text, queue text)
    language plpgsql
as $$
#variable_conflict use_column
declare
    accepted bigint[];
    states text[];
    topics text[];
begin
    perform from unnest(ids) as g(execution_id)
      cross join lateral (select from durable.execution e where e.execution_id = g.execution_id for no key update) e;
    -- A row that was locked is read as it is now, whatever it was when the statement began.
    with given as materialized (
        select * from unnest(ids, seqs, operations) with ordinality as g(execution_id, seq, operation, n)
    ), locked as materialized (
        select g.n, g.execution_id, g.seq, i.name, i.status, i.operation = g.operation as ours, e.over
          from given g
         cross join lateral (
               select e.ended_at is not null as over from durable.execution e where e.execution_id = g.execution_id offset 0
         ) e
         cross join lateral (
               select i.name, i.status, i.operation from durable.input i where i.execution_id = g.execution_id and i.seq = g.seq for update
         ) i
    ), judged as materialized (
        select g.n, l.name, g.seq,
               case when l.n is null then 'unknown'
                    when l.ours then 'duplicate'
                    when l.over then 'ended'
                    when l.status <> 'pending' or row_number() over (partition by g.execution_id, g.seq order by g.n) > 1 then 'closed'
                    else 'sent' end as state
          from given g
          left join locked l on l.n = g.n
    )
    select array_agg(j.state order by j.n), array_agg('input:' || j.seq || ':' || j.name order by j.n), array_agg(j.n order by j.n) filter (where j.state = 'sent')
      into states, topics, accepted
      from judged j;
    update durable.input i
       set status = 'answered', closed_at = durable.clock(), remind_at = null, operation = g.operation, answered_by = g.answerer, answer = g.payload::json
      from (select ids[a.n] as execution_id, seqs[a.n] as seq, operations[a.n] as operation, payloads[a.n] as payload, answerers[a.n] as answerer
              from unnest(accepted) as a(n)) g
     where i.execution_id = any (array[g.execution_id]) and i.seq = g.seq;
    return query
    with sent as materialized (
        select d.outcome, d.queue, accepted[d.n] as n
          from durable.deliver(array(select ids[a.n] from unnest(accepted) with ordinality as a(n, place) order by a.place),
                               array(select topics[a.n] from unnest(accepted) with ordinality as a(n, place) order by a.place),
                               array(select 'i:' || seqs[a.n] from unnest(accepted) with ordinality as a(n, place) order by a.place),
                               array(select payloads[a.n] from unnest(accepted) with ordinality as a(n, place) order by a.place)) d
    )
    select g.n, coalesce(s.outcome, g.state),
           case when g.state = 'duplicate' then (select e.queue from durable.execution e where e.execution_id = ids[g.n]) else s.queue end
      from unnest(states) with ordinality as g(state, n)
      left join sent s on s.n = g.n;
end;
$$;
