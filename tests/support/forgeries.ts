import type { Attack } from "./attacks.ts";

/** Rows that the worker may write, made so that whoever decides on them, or runs a function over them, would reach further than the worker. */

const FOREIGN = `jsonb_build_array(jsonb_build_object('name', 'name', 'type', 'text', 'sensitive', false), jsonb_build_object('name', 'amount', 'type', 'numeric'))`;
const VALUES = `'{"name": "owned", "amount": 1}'::jsonb`;

/** An entity of some name over some table; nothing of either is as it should be. */
const entity = (name: string, table: string, key: string, columns: string) =>
  `insert into public.sync_entities (source_id, entity_type, source_table, target_table, legacy_key, columns, definition_hash, adoption_epoch)
   select min(id), '${name}', 'x', $t$${table}$t$, $t$${key}$t$, ${columns}, 'forged', 1 from public.sync_sources`;
/** Conflicts of each kind about every row of the table that `ids` yields, with what is remembered of it. */
const conflicts = (name: string, ids: string, field: string, values = VALUES) => [
  `insert into public.sync_row_states (entity_id, legacy_id, seen, "left")
   select e.id, n, ${values}, ${values} from public.sync_entities e, generate_series(1, 400) n where e.entity_type = '${name}' on conflict do nothing`,
  `insert into public.sync_conflicts (state, entity_type, source_record_id, conflict_type, field, remedy, rule, source_table, target_table, entity_id, target_record_id)
   select 'open', e.entity_type, 100 * k.n + row_number() over (partition by k.n order by r.id), 'concurrent_modification', $t$${field}$t$, '', k.rule, 'x', e.target_table, e.id,
          case when k.rule = 'target_deleted' then gen_random_uuid() else r.id end
     from public.sync_entities e, (${ids}) r (id), (values (0, 'both_changed'), (1, 'deleted_in_source'), (2, 'target_deleted'), (3, 'left_edited')) k (n, rule)
    where e.entity_type = '${name}'`,
  `insert into public.sync_conflict_values (conflict_id, seen, source, target, "left", record)
   select c.id, ${values}, ${values}, case when c.rule = 'both_changed' then '{"name": "nobody''s business 1", "amount": 10}'::jsonb else '{}' end, ${values}, ${values}
     from public.sync_conflicts c where c.entity_type = '${name}'`,
];
/** A row of the foreign table is known by its id. */
const LEDGER = "select ('00000000-0000-4000-8000-00000000000' || n)::uuid from generate_series(1, 3) n";
const adoptable = (name: string) => [
  `insert into public.sync_adoption_rows (entity_id, legacy_id, id, undecided) select e.id, n, ('00000000-0000-4000-8000-00000000000' || n)::uuid, true
     from public.sync_entities e, generate_series(1, 3) n where e.entity_type = '${name}'`,
  `insert into public.sync_conflicts (state, entity_type, source_record_id, conflict_type, remedy, rule, source_table, target_table, entity_id)
   select 'open', entity_type, n, 'uuid_mapping_conflict', '', 'adoption.ambiguous', 'x', target_table, id from public.sync_entities, generate_series(1, 3) n where entity_type = '${name}'`,
];
const asOffices = (set: string) => [`update public.sync_entities set ${set} where entity_type = 'offices'`];

export const FORGERIES: readonly Attack[] = [
  {
    title: "an entity over a table of the application that nobody syncs",
    statements: [
      entity("forged", "ledger", "legacy_id", FOREIGN),
      ...conflicts("forged", LEDGER, "name, amount"),
      ...adoptable("forged"),
    ],
  },
  {
    title: "a synced entity that is turned to another table",
    statements: [
      ...asOffices(`target_table = 'ledger', legacy_key = 'legacy_id', columns = ${FOREIGN}`),
      ...conflicts("offices", LEDGER, "name, amount"),
      ...adoptable("offices"),
    ],
  },
  {
    title: "a synced entity with columns that the sync does not own",
    statements: [
      ...asOffices(
        `target_table = 'offices', legacy_key = 'legacy_office_id', columns = columns || '[{"name": "notes", "type": "text"}, {"name": "created_at", "type": "timestamptz"}]'`,
      ),
      ...conflicts(
        "offices",
        "select id from public.offices",
        "notes",
        `'{"notes": "owned", "created_at": "2000-01-01"}'::jsonb`,
      ),
    ],
  },
  {
    title: "an entity over our own tables",
    statements: [
      entity("of_jobs", "sync_jobs", "id", `'[{"name": "configuration", "type": "jsonb"}, {"name": "name", "type": "varchar"}]'`),
      ...conflicts(
        "of_jobs",
        "select id from public.sync_jobs",
        "configuration",
        `'{"configuration": {"entities": ["owned"]}, "name": "owned"}'::jsonb`,
      ),
      entity("of_releases", "sync_released_entities", "entity_type", `'[{"name": "columns", "type": "text[]"}]'`),
      ...conflicts("of_releases", LEDGER, "columns"),
    ],
  },
  {
    title: "names that are SQL",
    statements: [
      entity("of_sql", `offices t; update public.ledger set name = 'owned'; --`, `id" = $1 or pg_temp.evil() or "id`, FOREIGN),
      ...conflicts("of_sql", LEDGER, "name, amount"),
      ...adoptable("of_sql"),
      `update public.sync_entities set columns = columns || '[{"name": "name\\" = (select name from public.ledger limit 1), \\"name", "type": "text"}]', target_table = 'offices' where entity_type = 'of_sql'`,
      entity("'; select 1; --", "offices", "legacy_office_id", `'[{"name": "%1$I", "type": "numeric"}, {"name": null}, 7]'`),
      ...conflicts("''; select 1; --", LEDGER, "%1$I, %s"),
    ],
  },
  {
    title: "parents, page log, brakes, alerts and requests that say anything",
    statements: [
      `insert into public.sync_alerts (kind, severity, message) values ('mine', 'critical', '<script>'); `,
      `update public.sync_sources set capabilities = '{"x": "; drop table public.ledger"}'`,
      `update public.sync_entities set rules = '[{"rule": "ledger"}]', depends_on = array['; drop table public.ledger'], on_delete = '{"policy": "hard", "set": {"name": "owned"}}', predicate = '{"rule": "x", "on_leave": "delete"}'`,
      `insert into public.sync_side_effects (kind, table_name, name, does, definition) values ('trigger', 'ledger', 'mine', 'x', 'x')`,
      `insert into public.sync_brakes (entity_id, kind, records, landed) select min(id), 'delete', 5, 5 from public.sync_entities`,
    ],
  },
];

/** What a reviewer or the owner does in good faith, over everything that stands there. */
export const GOOD_FAITH = {
  reviewer: (ids: readonly string[]) =>
    ids.flatMap((id) => [
      `update public.sync_conflicts set resolution_strategy = 'source_wins' where id = '${id}'`,
      `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${id}'`,
      `update public.sync_conflicts set resolution_strategy = null where id = '${id}'`,
      `update public.sync_conflicts set resolution_strategy = 'merge', resolution_data = '{"name": "owned", "amount": 1, "notes": "owned"}' where id = '${id}'`,
      `select sync.reveal('${id}')`,
    ]),
  owner: (ids: readonly string[]) => [
    ...GOOD_FAITH.reviewer(ids),
    ...ids.flatMap((id) => [1, 2, 3].map((n) => `select sync.adopt_as('${id}', '00000000-0000-4000-8000-00000000000${n}')`)),
    "select sync.replay()",
    "select sync.count_queue(id) from public.sync_sources",
    "update public.sync_brakes set confirmed_by = 'Ann' where closed_at is null",
    "select sync.acknowledge_side_effects(null, 'Ann')",
    "insert into public.sync_rule_overrides (rule, severity, reason) values ('ledger', 'warn', 'in good faith')",
    "delete from public.sync_rule_overrides where reason = 'in good faith'",
    "update public.sync_alerts set closed_at = now()",
    "select net.http_post('https://a.example', '{}', '{}', '{}', 1000)",
  ],
} as const;
