-- Purpose: what a message about alerts says, and how it is signed. No value of a row, no address and no key.

-- By the definition of HMAC (RFC 2104), from what the server has in pg_catalog: pgcrypto stands in another schema
-- here and there, or nowhere.
create function sync.hmac_sha256(p_key text, p_message text) returns text
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_key   bytea := convert_to(p_key, 'UTF8');
  v_inner bytea;
  v_outer bytea;
begin
  if length(v_key) > 64 then
    v_key := sha256(v_key);
  end if;
  v_key := v_key || decode(repeat('00', 64 - length(v_key)), 'hex');
  v_inner := v_key;
  v_outer := v_key;
  for i in 0 .. 63 loop
    v_inner := set_byte(v_inner, i, get_byte(v_key, i) # 54);
    v_outer := set_byte(v_outer, i, get_byte(v_key, i) # 92);
  end loop;
  return encode(sha256(v_outer || sha256(v_inner || convert_to(p_message, 'UTF8'))), 'hex');
end
$$;
comment on function sync.hmac_sha256(text, text) is 'The HMAC-SHA-256 of a message, in hexadecimal digits.';

create function sync.chat_text(p_text text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select replace(replace(replace(left(regexp_replace(p_text, '[[:cntrl:]]+', ' ', 'g'), 2000), '&', '&amp;'), '<', '&lt;'), '>', '&gt;')
$$;
comment on function sync.chat_text(text) is
  'A text for a chat: one line of 2,000 characters at most, in which nothing is a link, a mention or other markup.';

create function sync.project_ref() returns text
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return substring(sync.read_secret('isthmus_functions_url') from '^https://([a-z0-9]{20})[.]supabase[.]co(/|$)');
exception when undefined_object or object_not_in_prerequisite_state then
  return null;
end
$$;
comment on function sync.project_ref() is 'The project''s ref, where the functions'' address in Vault tells it.';

create function sync.studio_link(p_ref text, p_alert uuid) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select 'https://supabase.com/dashboard/project/' || p_ref || '/editor/' || 'public.sync_alerts'::regclass::oid || '?schema=public'
      || coalesce('&filter=id%3Aeq%3A' || p_alert, '')
$$;
comment on function sync.studio_link(text, uuid) is
  'Where Studio shows a row of sync_alerts; without a row: all of them. null without a ref.';

create function sync.alert_codes(p_alert public.sync_alerts) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with told as (
    select p_alert.details as said
    union all
    select x.errors from public.sync_executions x where x.id = p_alert.execution_id and p_alert.kind = 'execution_failed'
    union all
    select '{"code": "BRAKE_APPLIED"}' where p_alert.kind = 'brake'
  ), codes as (
    select c #>> '{}' as code from told cross join jsonb_path_query(told.said, 'strict $.**.code') c where jsonb_typeof(c) = 'string'
    union all
    select 'SQLSTATE ' || (c #>> '{}') from told cross join jsonb_path_query(told.said, 'strict $.**.sqlstate') c where jsonb_typeof(c) = 'string'
  )
  -- Whatever is no code of ours does not leave.
  select array(select code from codes where code ~ '^([A-Z][A-Z0-9_]{1,59}|SQLSTATE [0-9A-Z]{5})$' group by code order by count(*) desc, code limit 5)
$$;
comment on function sync.alert_codes(public.sync_alerts) is
  'The codes of what an alert is about, the most frequent first, five at most.';

create function sync.alert_entities(p_alert public.sync_alerts) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with named as (
    select c #>> '{}' as name from jsonb_path_query(p_alert.details, 'strict $.**.entity') c where jsonb_typeof(c) = 'string'
    union
    select c #>> '{}' from jsonb_path_query(p_alert.details, 'strict $.entities[*]', '{}', true) c where jsonb_typeof(c) = 'string'
    union
    select c #>> '{}' from public.sync_executions x cross join jsonb_path_query(x.errors, 'strict $.**.entity', '{}', true) c
     where x.id = p_alert.execution_id and p_alert.kind = 'execution_failed' and jsonb_typeof(c) = 'string'
  ), known as (
    select n.name from named n where exists (select from public.sync_entities e where e.entity_type = n.name)
    union
    select e.entity_type from public.sync_entities e where e.id = p_alert.entity_id
  )
  -- An execution that failed as a whole has failed for all of its entities.
  select coalesce((select array_agg(name order by name) from known),
                  array(select e from public.sync_executions x cross join unnest(x.entities) e where x.id = p_alert.execution_id and p_alert.kind = 'execution_failed' order by e))
$$;
comment on function sync.alert_entities(public.sync_alerts) is 'The entities that an alert is about.';

create function sync.alert_facts(p_alert public.sync_alerts, p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object(
    'alert', p_alert.id, 'kind', p_alert.kind, 'severity', p_alert.severity,
    'source', (select s.name from public.sync_sources s where s.id = p_alert.source_id),
    'entity', (select e.entity_type from public.sync_entities e where e.id = p_alert.entity_id),
    'subject', nullif(p_alert.subject, ''), 'execution', p_alert.execution_id,
    'job', (select j.name from public.sync_jobs j where j.id = p_alert.job_id),
    'message', left(p_alert.message, 2000), 'remedy', p_alert.remedy, 'occurrences', p_alert.occurrences,
    'since', to_char(p_alert.first_seen_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'codes', to_jsonb(sync.alert_codes(p_alert)), 'entities', to_jsonb(e.names[1:20]), 'entityCount', cardinality(e.names),
    'acknowledgedBy', p_alert.acknowledged_by, 'link', sync.studio_link(p_ref, p_alert.id))
    from (select sync.alert_entities(p_alert) as names) e
$$;
comment on function sync.alert_facts(public.sync_alerts, text) is
  'What a message tells of an alert. p_ref: the project''s.';

create function sync.alert_name(p_facts jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.chat_text(format('[%s] %s', p_facts ->> 'severity', p_facts ->> 'kind') || coalesce(' of ' || (p_facts ->> 'entity'), '')
    || coalesce(' (' || (p_facts ->> 'source') || ')', ''))
$$;
comment on function sync.alert_name(jsonb) is 'Of which alert the facts are, in a few words.';

create function sync.about_line(p_facts jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- One entity alone stands in the first line.
  select chr(10) || sync.chat_text(nullif(concat_ws(' ',
    'Codes: ' || (select string_agg(c, ', ') from jsonb_array_elements_text(p_facts -> 'codes') c) || '.',
    case when (p_facts ->> 'entityCount')::integer > 1 or p_facts ->> 'entity' is null then
      'Entities: ' || (select string_agg(n.name, ', ' order by n.place) from jsonb_array_elements_text(p_facts -> 'entities') with ordinality n (name, place) where n.place <= 5)
        || case when (p_facts ->> 'entityCount')::integer > 5 then format(' and %s more', (p_facts ->> 'entityCount')::integer - 5) else '' end || '.' end,
    'Job: ' || (p_facts ->> 'job') || '.', 'Execution: ' || (p_facts ->> 'execution') || '.'), ''))
$$;
comment on function sync.about_line(jsonb) is
  'A line of its own about what an alert is: codes, the first five entities, job and execution. Null: nothing is '
  'known of these.';

create function sync.single_message(p_id uuid, p_event text, p_slot text, p_alert public.sync_alerts, p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('version', 1, 'id', p_id, 'event', p_event, 'text',
      case when p_event = 'cleared' then 'Over: ' when p_event = 'escalated' and p_slot = 'second' then 'Nobody has acknowledged this: '
           when p_event = 'escalated' then 'Worse than before: ' when p_alert.reopened_at is not null then 'Again: ' else '' end
      || sync.alert_name(f.facts) || chr(10) || sync.chat_text(p_alert.message) || coalesce(sync.about_line(f.facts), '')
      || case when p_event <> 'cleared' and p_alert.remedy <> '' then chr(10) || 'What to do: ' || sync.chat_text(p_alert.remedy) else '' end
      || coalesce(chr(10) || replace(f.facts ->> 'link', '&', '&amp;'), '')) || f.facts
    from (select sync.alert_facts(p_alert, p_ref) as facts) f
$$;
comment on function sync.single_message(uuid, text, text, public.sync_alerts, text) is
  'The message about one alert: text for a chat, and the same as fields.';

create function sync.digest_message(p_id uuid, p_of text, p_slot text, p_alerts uuid[], p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('version', 1, 'id', p_id, 'event', 'digest', 'of', p_of, 'count', count(*),
      'severity', case when bool_or(a.severity = 'critical') then 'critical' else 'warning' end,
      'text', format(case when p_of = 'cleared' then '%s alerts are over:' when p_of = 'escalated' and p_slot = 'second' then 'Nobody has acknowledged %s alerts:'
                          when p_of = 'escalated' then '%s alerts are worse than before:'
                          when p_of = 'missed' then 'While messages did not arrive here, %s alerts opened that are over:' else '%s alerts at once:' end, count(*))
        || string_agg(chr(10) || sync.alert_name(a.facts) || case when a.ended and p_of in ('opened', 'escalated') then ' (over)' else '' end, '' order by a.n) filter (where a.n <= 20)
        || case when count(*) > 20 then format(E'\nand %s more.', count(*) - 20) else '' end
        || coalesce(chr(10) || replace(sync.studio_link(p_ref, null), '&', '&amp;'), ''),
      'alerts', pg_catalog.jsonb_agg(a.facts - array['message', 'remedy', 'link'] order by a.n) filter (where a.n <= 100),
      'link', sync.studio_link(p_ref, null))
    from (select sync.alert_facts(x, p_ref) as facts, x.severity, x.closed_at is not null as ended, row_number() over (order by x.severity, x.first_seen_at, x.id) as n
            from public.sync_alerts x where x.id = any (p_alerts)) a
$$;
comment on function sync.digest_message(uuid, text, text, uuid[], text) is
  'One message instead of many: the names of the first 20 alerts in its text, and which of those that it tells as '
  'open are over; the facts of the first 100 beside it.';

create function sync.short_message(p_body jsonb, p_status integer) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_strip_nulls(jsonb_build_object('version', 1, 'id', p_body -> 'id', 'event', p_body -> 'event', 'of', p_body -> 'of', 'alert', p_body -> 'alert', 'kind', p_body -> 'kind',
    'severity', p_body -> 'severity', 'count', p_body -> 'count', 'refused', p_status, 'text',
    left(regexp_replace(split_part(p_body ->> 'text', chr(10), 1), '[^ -~]|[&<>\\"]', '', 'g'), 200)
      || format(' The whole message was refused here with status %s. See sync_alerts.', p_status)))
$$;
comment on function sync.short_message(jsonb, integer) is
  'What is sent instead of a message that the receiver refuses as such: the first line in plain letters, and that '
  'the rest was refused.';

create function sync.test_message(p_id uuid) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('version', 1, 'id', p_id, 'event', 'test', 'text', 'A test of Isthmus: alerts arrive here.')
$$;
comment on function sync.test_message(uuid) is 'The message that only shows that messages arrive.';

revoke all on function sync.hmac_sha256(text, text), sync.chat_text(text), sync.project_ref(), sync.studio_link(text, uuid),
  sync.alert_codes(public.sync_alerts), sync.alert_entities(public.sync_alerts), sync.about_line(jsonb), sync.short_message(jsonb, integer),
  sync.alert_facts(public.sync_alerts, text), sync.alert_name(jsonb), sync.single_message(uuid, text, text, public.sync_alerts, text),
  sync.digest_message(uuid, text, text, uuid[], text), sync.test_message(uuid) from public;
