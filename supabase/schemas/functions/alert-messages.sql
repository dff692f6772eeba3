-- Purpose: what a message about alerts says, and how it is signed. No value of a row, no address and no key.

-- By the definition of HMAC (RFC 2104), from what the server has in pg_catalog: pgcrypto stands in another schema here and there, or nowhere.
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
comment on function sync.chat_text(text) is 'A text for a chat: one line of 2,000 characters at most, in which nothing is a link, a mention or other markup.';

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
comment on function sync.studio_link(text, uuid) is 'Where Studio shows a row of sync_alerts; without a row: all of them. null without a ref.';

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
    'acknowledgedBy', p_alert.acknowledged_by, 'link', sync.studio_link(p_ref, p_alert.id))
$$;
comment on function sync.alert_facts(public.sync_alerts, text) is 'What a message tells of an alert. p_ref: the project''s.';

create function sync.alert_name(p_facts jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.chat_text(format('[%s] %s', p_facts ->> 'severity', p_facts ->> 'kind') || coalesce(' of ' || (p_facts ->> 'entity'), '')
    || coalesce(' (' || (p_facts ->> 'source') || ')', ''))
$$;
comment on function sync.alert_name(jsonb) is 'Of which alert the facts are, in a few words.';

create function sync.single_message(p_id uuid, p_event text, p_slot text, p_alert public.sync_alerts, p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('version', 1, 'id', p_id, 'event', p_event, 'text',
      case when p_event = 'cleared' then 'Over: ' when p_event = 'escalated' and p_slot = 'second' then 'Nobody has acknowledged this: '
           when p_event = 'escalated' then 'Worse than before: ' else '' end
      || sync.alert_name(f.facts) || chr(10) || sync.chat_text(p_alert.message)
      || case when p_event <> 'cleared' and p_alert.remedy <> '' then chr(10) || 'What to do: ' || sync.chat_text(p_alert.remedy) else '' end
      || coalesce(chr(10) || replace(f.facts ->> 'link', '&', '&amp;'), '')) || f.facts
    from (select sync.alert_facts(p_alert, p_ref) as facts) f
$$;
comment on function sync.single_message(uuid, text, text, public.sync_alerts, text) is 'The message about one alert: text for a chat, and the same as fields.';

create function sync.digest_message(p_id uuid, p_of text, p_slot text, p_alerts uuid[], p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('version', 1, 'id', p_id, 'event', 'digest', 'of', p_of, 'count', count(*),
      'severity', case when bool_or(a.severity = 'critical') then 'critical' else 'warning' end,
      'text', format(case when p_of = 'cleared' then '%s alerts are over:' when p_of = 'escalated' and p_slot = 'second' then 'Nobody has acknowledged %s alerts:'
                          when p_of = 'escalated' then '%s alerts are worse than before:' else '%s alerts at once:' end, count(*))
        || string_agg(chr(10) || sync.alert_name(a.facts), '' order by a.n) filter (where a.n <= 20)
        || case when count(*) > 20 then format(E'\nand %s more.', count(*) - 20) else '' end
        || coalesce(chr(10) || replace(sync.studio_link(p_ref, null), '&', '&amp;'), ''),
      'alerts', pg_catalog.jsonb_agg(a.facts - array['message', 'remedy', 'link'] order by a.n) filter (where a.n <= 100),
      'link', sync.studio_link(p_ref, null))
    from (select sync.alert_facts(x, p_ref) as facts, x.severity, row_number() over (order by x.severity, x.first_seen_at, x.id) as n
            from public.sync_alerts x where x.id = any (p_alerts)) a
$$;
comment on function sync.digest_message(uuid, text, text, uuid[], text) is
  'One message instead of many: the names of the first 20 alerts in its text, the facts of the first 100 beside it.';

create function sync.test_message(p_id uuid) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('version', 1, 'id', p_id, 'event', 'test', 'text', 'A test of Isthmus: alerts arrive here.')
$$;
comment on function sync.test_message(uuid) is 'The message that only shows that messages arrive.';

revoke all on function sync.hmac_sha256(text, text), sync.chat_text(text), sync.project_ref(), sync.studio_link(text, uuid),
  sync.alert_facts(public.sync_alerts, text), sync.alert_name(jsonb), sync.single_message(uuid, text, text, public.sync_alerts, text),
  sync.digest_message(uuid, text, text, uuid[], text), sync.test_message(uuid) from public;
