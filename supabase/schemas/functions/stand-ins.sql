-- Purpose: values that stand in a column for a moment, of whatever type, in place of one that another row is to get.
-- Locks:   none.
--
-- A stand-in is found by the text of a value, not by its type: characters give way to others of their kind (digits,
-- small letters, capitals), a few at a time, or some are added; and what the type reads of such a text is a value
-- that looks like the one before. So a code stays a code, an address an address, and a CHECK that lets the one pass
-- is likely to let the other pass.

create function sync.mutated(p_text text, p_try integer, p_seed integer) returns text
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- Of a long text one end is enough.
  c_most    constant integer := 200;
  c_kind    constant text := case when p_text ~ '[0-9]' and p_try / 5 % 2 = 0 then '[0-9]' else '[0-9A-Za-z]' end;
  v_at_end  boolean := p_try % 2 = 0;
  v_part    text := case when v_at_end then right(p_text, c_most) else left(p_text, c_most) end;
  v_chars   text[] := string_to_array(v_part, null);
  v_digits  text := case when p_try / 5 in (2, 5) then '01' else '0123456789' end;
  v_letters text := case when p_try / 5 in (1, 3) then 'abcdef' else 'abcdefghijklmnopqrstuvwxyz' end;
  v_others  text[] := array(select c from pg_catalog.unnest(v_chars) c where ascii(c) > 127);
  v_able    integer[] := array(select i from generate_subscripts(v_chars, 1) i where v_chars[i] ~ c_kind or ascii(v_chars[i]) > 127 and c_kind <> '[0-9]');
  v_count   integer := cardinality(v_able);
  v_random  bigint := abs(hashint4extended(p_seed, p_try) / 2);
  v_grows   integer := case when p_try % 5 = 0 then (array[6, 3, 4, 1, 2, 8, 1, 2])[p_try / 5 % 8 + 1] else 0 end;
  v_grown   integer;
begin
  if v_count = 0 then
    return case when v_grows > 0 then p_text || left(lpad((v_random % 100000000)::text, 8, '1'), v_grows) end;
  end if;
  v_grown := v_able[case when p_try < 5 then v_count else v_random % v_count + 1 end];
  return case when v_at_end then left(p_text, greatest(length(p_text) - c_most, 0)) else '' end || (
    select string_agg(
             case when not p.replaced then k.c else sync.other_character(k.c, p.random, v_digits, v_letters, v_others) end
               || case when k.i = v_grown and v_grows > 0 then (
                    select string_agg(sync.other_character(k.c, abs(hashint4extended(p_seed, p_try * 1000 + g) / 2), v_digits, v_letters, v_others), '')
                      from generate_series(1, v_grows) g) else '' end, '' order by k.i)
      from (select i, v_chars[i] as c, i = any (v_able) as able,
                   -- Which run of digits or of letters this is.
                   count(*) filter (where (v_chars[i] ~ '[0-9]') is distinct from (v_chars[i - 1] ~ '[0-9]') or (v_chars[i] ~ '[A-Za-z]') is distinct from (v_chars[i - 1] ~ '[A-Za-z]'))
                     over (order by i) as run
              from generate_subscripts(v_chars, 1) i) k
      cross join lateral (
        select abs(hashint4extended(p_seed, p_try * 1000 + 500 + k.i) / 2) as random,
               k.able and case p_try % 5
                 when 0 then false
                 when 1 then k.i >= v_able[greatest(1, v_count + 1 - (array[1, 2, 3, 1, 4, 2, 2, 6])[p_try / 5 % 8 + 1])]
                 when 2 then hashint4extended(p_seed, p_try * 1000 + 300 + k.run) % 2 = 0
                 when 3 then true
                 else k.i = v_grown end as replaced) p)
    || case when v_at_end then '' else substr(p_text, c_most + 1) end;
end
$$;
comment on function sync.mutated(text, integer, integer) is
  'A text that looks like this one: some characters are others of their kind, or some were added. p_try says which '
  'and how many, p_seed as what. Null: nothing can be.';

create function sync.other_character(p_like text, p_random bigint, p_digits text, p_letters text, p_others text[]) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_like ~ '[0-9]' then substr(p_digits, (p_random % length(p_digits))::integer + 1, 1)
              when p_like ~ '[a-z]' then substr(p_letters, (p_random % length(p_letters))::integer + 1, 1)
              when p_like ~ '[A-Z]' then upper(substr(p_letters, (p_random % length(p_letters))::integer + 1, 1))
              else p_others[p_random % cardinality(p_others) + 1] end
$$;
comment on function sync.other_character(text, bigint, text, text, text[]) is
  'One of the characters given, of the kind of p_like.';

create function sync.stand_in_told(p_where text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('select pg_catalog.set_config(%L, %L, true)', 'isthmus.stand_in', p_where)
$$;
comment on function sync.stand_in_told(text) is
  'The statement that tells triggers of the target, in the setting isthmus.stand_in, where they may meet a stand-in: '
  'new (this statement writes one), old (the row may hold one), or empty: nowhere.';

create function sync.refuses_value(p_sqlstate text) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_sqlstate = 'XX000' or sync.category_of_state(p_sqlstate) not in ('transient', 'limit', 'damage')
$$;
comment on function sync.refuses_value(text) is
  'Whether an error that came of a stand-in says that this value will not do: whatever types, constraints, triggers '
  'and policies raise, but nothing of connections, deadlocks, locks, resources, operators and disks, which concern '
  'the page.';

create function sync.reads_as(p_text text, p_type text) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_text  text;
  v_state text;
begin
  -- The checks of a domain are the application's.
  perform set_config('search_path', sync.application_path(), true);
  execute format('select ($1::text)::%s::text', p_type) into v_text using p_text;
  return v_text;
-- Whatever the checks of a domain and the types of an extension raise: the text is not one of theirs.
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate;
  if not sync.refuses_value(v_state) then
    raise;
  end if;
  return null;
end
$$;
comment on function sync.reads_as(text, text) is
  'The text of the value that a type, its domains'' checks included, reads of a text; null: none.';

create function sync.stand_in(p_now text, p_new text, p_type text, p_seed integer, p_listed text[], p_try integer) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.read
    from (select sync.reads_as(case when p_try >= 40 then p_listed[p_try - 39] else sync.mutated(case when p_try % 3 = 2 then coalesce(p_new, p_now) else coalesce(p_now, p_new) end, p_try, p_seed) end,
                               p_type) as read offset 0) c
   where c.read is distinct from p_now and c.read is distinct from p_new
$$;
comment on function sync.stand_in(text, text, text, integer, text[], integer) is
  'A value that may stand in for p_now in a row that is to get p_new: of the tries 0 to 39 one that looks like '
  'either, from 40 on one of p_listed; null: nothing of this try.';

create function sync.first_stand_in(p_now text, p_new text, p_type text, p_seed integer) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_found text;
begin
  for v_try in 0 .. 14 loop
    v_found := sync.stand_in(p_now, p_new, p_type, p_seed, null, v_try);
    if v_found is not null then
      return v_found;
    end if;
  end loop;
  -- The others of its slice would try in vain.
  raise exception using errcode = '23505', message = 'nothing that looks like the value is one of its type';
end
$$;
comment on function sync.first_stand_in(text, text, text, integer) is
  'The first of the values of sync.stand_in that the type takes. Raises 23505 where it takes none of the first '
  'tries: not all rows of a slice can give up their values at once.';

revoke all on function sync.mutated(text, integer, integer), sync.other_character(text, bigint, text, text, text[]), sync.stand_in_told(text), sync.refuses_value(text), sync.reads_as(text, text),
  sync.stand_in(text, text, text, integer, text[], integer), sync.first_stand_in(text, text, text, integer) from public;
grant execute on function sync.mutated(text, integer, integer), sync.other_character(text, bigint, text, text, text[]), sync.stand_in_told(text), sync.refuses_value(text), sync.reads_as(text, text),
  sync.stand_in(text, text, text, integer, text[], integer), sync.first_stand_in(text, text, text, integer) to isthmus_worker;
