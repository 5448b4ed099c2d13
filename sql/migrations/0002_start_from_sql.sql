-- 0002 Start executions from SQL: triggers, psycopg, SQLAlchemy, any language, in the transaction that is open.
-- Rewrites tables: no. Old workers: safe.

-- Start an execution of a workflow that some program has registered, and return its id. The same id starts once: a second
-- start of the same workflow returns the id again, another workflow's is refused. Workers are told with the commit, unless
-- notify is false; then they find it by polling.
create function durable.start_execution(
    workflow     text,
    input        json,
    id           text        default null,
    queue        text        default null,
    priority     int         default null,
    scheduled_at timestamptz default null,
    tags         jsonb       default null,
    version      int         default null,
    notify       boolean     default true,
    key          text        default null
) returns text
    language plpgsql
as $$
#variable_conflict use_variable
declare
    shape    durable.shape;
    the_id   text := coalesce(id, gen_random_uuid()::text);
    the_uuid uuid := durable.execution_id(the_id);
    the_queue text;
    due      timestamptz := greatest(coalesce(scheduled_at, durable.clock()), durable.clock());
    existing text;
    q        record;
begin
    if the_id = '' or length(the_id) > 500 then
        raise exception 'durable: an execution id has 1 to 500 characters, this one has %', length(the_id) using errcode = 'invalid_parameter_value';
    end if;
    if jsonb_typeof(tags) <> 'object' then
        raise exception 'durable: tags are a JSON object, this is: %', tags using errcode = 'invalid_parameter_value';
    end if;
    select s.* into shape
      from durable.shape s
     where s.workflow = workflow and (version is null or s.version = version)
     order by s.version desc, s.last_seen_at desc
     limit 1;
    if not found then
        raise exception 'durable: no program has registered workflow "%"%', workflow, coalesce(' version ' || version, '')
            using errcode = 'undefined_object', hint = 'Start a worker that has it, Durable(..., workflows=[...]), once.';
    end if;
    the_queue := coalesce(queue, shape.queue);
    if the_queue in ('', '*', '?', '!') or position(',' in the_queue) > 0 or length(the_queue) > 200 then
        raise exception 'durable: "%" cannot be the name of a queue', the_queue using errcode = 'invalid_parameter_value',
            hint = 'Give 1 to 200 characters without comma, not *, not ? and not !.';
    end if;
    select x.* into q from durable.queue x where x.queue = the_queue;
    select e.workflow into existing from durable.execution e where e.execution_id = the_uuid;
    if existing is null then
        select k.workflow into existing from durable.kept k where k.execution_id = the_uuid;
        if existing = workflow then
            return the_id;
        elsif existing is not null then
            raise exception 'durable: execution "%" existed before, and was one of workflow "%", not "%"', the_id, existing, workflow
                using errcode = 'unique_violation';
        end if;
        if key is null and q.keyed then
            raise exception 'durable: what is in queue "%" takes turns by key', the_queue using errcode = 'invalid_parameter_value',
                hint = 'Give key => ..., what its Queue(key=...) would say.';
        end if;
        if key is not null and q.keyed is not true then
            raise exception 'durable: queue "%" has no keys', the_queue using errcode = 'invalid_parameter_value',
                hint = 'Give it some, Durable(..., queues={...: Queue(per_key=...)}), or leave key out.';
        end if;
        if due <= durable.clock() and q.max_depth <= (select count(*) from (select from durable.ready r where r.queue = the_queue and r.held_by is null limit q.max_depth) as deep) then
            raise exception 'durable: queue "%" is full', the_queue using errcode = 'program_limit_exceeded', hint = 'Try again later.';
        end if;
    end if;
    insert into durable.execution as e (execution_id, shape_id, started_by, created_at, due_at, deadline_at, version, priority, status,
                                        workflow, queue, key, name, tags, input)
    values (the_uuid, shape.shape_id, gen_random_uuid(), durable.clock(), due, due + make_interval(secs => shape.timeout), shape.version,
            coalesce(priority, shape.priority), 'pending', shape.workflow, the_queue, coalesce(key, ''), nullif(the_id, the_uuid::text), tags, input)
        on conflict on constraint execution_pkey do nothing;
    if not found then
        select e.workflow into existing from durable.execution e where e.execution_id = the_uuid;
        if existing is distinct from workflow then
            raise exception 'durable: execution "%" exists already, and is one of workflow "%", not "%"', the_id, existing, workflow
                using errcode = 'unique_violation';
        end if;
        return the_id;
    end if;
    perform durable.refuse_kept(array[the_uuid]);
    if due > durable.clock() then
        insert into durable.wake (execution_id, due_at) values (the_uuid, due);
    else
        insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
        values (the_uuid, due, shape.shape_id, coalesce(priority, shape.priority), 0, false, the_queue, coalesce(key, ''));
    end if;
    if notify then
        perform pg_notify('durable_ready', case when due > durable.clock() then '*' else the_queue end);
    end if;
    return the_id;
end;
$$;
