-- 0015 Pasts: what a claim brings along of an execution that was begun, where it is short, as it is stored: that is known without reading it.
-- Rewrites tables: no. Old workers: refused by the version of the schema.

create function durable.short_journal(execution_id uuid) returns text
    language plpgsql stable
as $$
#variable_conflict use_variable
begin
    if (select count(*) < 20 and coalesce(sum(coalesce(pg_column_size(s.value), 0) + coalesce(pg_column_size(s.error), 0)), 0) < 8000
          from (select j.value, j.error from durable.journal j where j.execution_id = execution_id order by j.seq limit 20) s) then
        return (
            select coalesce(json_agg(r), '[]')::text
              from (select j.seq, j.path, j.kind, j.attempt, j.target, j.data_seq, j.key, j.value::text as value, j.error::text as error,
                           extract(epoch from j.run_at - durable.clock())::float8 as run_in, j.seconds, j.recorded_at, j.run_at
                      from durable.journal j where j.execution_id = execution_id order by j.seq) r
        );
    end if;
    return null;
end
$$;
comment on function durable.short_journal is 'Rows like those of journal/read, as JSON; null where they are long: 20 of them, or 8,000 bytes.';

create function durable.short_mail(execution_id uuid) returns text
    language plpgsql stable
as $$
#variable_conflict use_variable
begin
    if (select count(*) < 20 and coalesce(sum(pg_column_size(s.payload)), 0) < 8000
          from (select m.payload from durable.message m
                 where m.execution_id = execution_id and m.consumed_by is null order by m.number limit 20) s) then
        return (
            select coalesce(json_agg(r), '[]')::text
              from (select m.number, m.topic, m.payload::text as payload
                      from durable.message m where m.execution_id = execution_id and m.consumed_by is null order by m.number) r
        );
    end if;
    return null;
end
$$;
comment on function durable.short_mail is 'Rows like those of message/read that nobody has consumed, as JSON; null where they are long: 20 of them, or 8,000 bytes.';
