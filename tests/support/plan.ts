import type { Sql } from "postgres";
import type { InProcess } from "./in-process.ts";

/** What belongs to an execution itself, and what is noted of the catalogs; everything else a plan must leave as it was. */
const OF_EXECUTIONS = [
  "sync_executions",
  "sync_chains",
  "sync_page_log",
  "sync_reports",
  "sync_contract_checks",
  "sync_entity_shapes",
  "sync_side_effects",
];

/** A digest of every table of the target but those that tell of executions. */
export async function everything(target: Sql, except: readonly string[] = []): Promise<Record<string, string>> {
  const tables = await target<{ name: string }[]>`
    select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1`;
  const digests: Record<string, string> = {};
  for (const { name } of tables.filter((table) => ![...OF_EXECUTIONS, ...except].includes(table.name))) {
    const [row] = await target.unsafe<{ digest: string }[]>(
      `select count(*) || ' ' || coalesce(md5(string_agg(t, ' ' order by t collate "C")), '') as digest
         from (select ${name === "sync_sources" ? "(to_jsonb(r) - 'capabilities')" : "r"}::text as t from public."${name}" r) x`,
    );
    digests[name] = row?.digest ?? "";
  }
  return digests;
}

export interface PlannedRecord {
  readonly entity: string;
  readonly legacyId: string;
  readonly outcome: string;
  readonly rule: string | null;
  readonly field: string | null;
  readonly parent: string | null;
  readonly parentId: string | null;
  readonly row: string | null;
}

/** Runs a plan; returns what it noted of each record before it reported and forgot. `look` is called at that moment. */
export async function planned(
  test: InProcess,
  request: Parameters<InProcess["start"]>[0] = {},
  look: () => Promise<void> = () => Promise.resolve(),
) {
  const { execution } = await test.start({ ...request, dryRun: true });
  const reporting = () => test.target.admin`
    select from public.sync_chains where execution_id = ${execution} and capture = 'validate' and state = 'open'`;
  for (let message = test.queue.shift(); message; message = test.queue.shift()) {
    if ((await reporting()).length > 0) {
      test.queue.unshift(message);
      break;
    }
    await test.run(message);
  }
  const records = await notedRecords(test.target.admin, execution);
  await look();
  const outcomes = await test.drain();
  const [ended] = await test.target.admin<{ status: string; errors: unknown }[]>`
    select status, errors from public.sync_executions where id = ${execution}`;
  if (ended?.status !== "succeeded" && ended?.status !== "incomplete")
    throw new Error(`plan ${ended?.status ?? "missing"}: ${JSON.stringify([ended, outcomes])}`);
  return { execution, records };
}

export async function notedRecords(target: Sql, execution: string): Promise<PlannedRecord[]> {
  return [
    ...(await target<PlannedRecord[]>`
      select e.entity_type as entity, r.legacy_id as "legacyId", r.outcome, r.rule, r.field, p.entity_type as parent,
             r.parent_legacy_id as "parentId", (r.row_after - 'updated_at')::text as row
        from public.sync_planned_records r join public.sync_entities e on e.id = r.entity_id
        left join public.sync_entities p on p.id = r.parent_entity_id
       where r.execution_id = ${execution} and r.outcome <> 'unchanged'`),
  ].sort(byRecord);
}

function byRecord(a: PlannedRecord, b: PlannedRecord): number {
  return a.entity.localeCompare(b.entity, "en") || (BigInt(a.legacyId) < BigInt(b.legacyId) ? -1 : 1);
}

/** What there is of each landed record, by entity and legacy id. */
export type Landed = ReadonlyMap<string, { readonly whole: string; readonly owned: string }>;

export async function landedRecords(target: Sql): Promise<Landed> {
  const entities = await target<{ name: string; table: string; owned: string }[]>`
    select entity_type as name, target_table as table, sync.owned_columns(e) as owned from public.sync_entities e`;
  const found = new Map<string, { whole: string; owned: string }>();
  for (const { name, table, owned } of entities) {
    const rows = await target.unsafe<{ key: string; whole: string; owned: string }[]>(
      `select m.legacy_id::text as key, to_jsonb(t)::text as whole, (o.now - 'updated_at')::text as owned
         from public.uuid_mappings_enhanced m join public."${table}" t on t.id = m.entity_uuid
        cross join lateral (select to_jsonb(x) as now from (select t.id, ${owned}) x) o
        where m.entity_type = $1 and m.sync_status = 'active'`,
      [name],
    );
    for (const { key, whole, owned: ours } of rows) found.set(`${name} ${key}`, { whole, owned: ours });
  }
  return found;
}

/** What a run has made of each record, from what it left behind, in the words of a plan. */
export async function happened(target: Sql, execution: string, before: Landed): Promise<PlannedRecord[]> {
  const after = await landedRecords(target);
  const record = (key: string, outcome: string, more: Partial<PlannedRecord> = {}): [string, PlannedRecord] => {
    const [entity = "", legacyId = ""] = key.split(" ");
    return [key, { entity, legacyId, outcome, rule: null, field: null, parent: null, parentId: null, row: null, ...more }];
  };
  const found = new Map<string, PlannedRecord>();
  for (const [key, { whole, owned }] of after) {
    const was = before.get(key);
    if (!was) found.set(...record(key, "inserted", { row: owned }));
    else if (was.whole !== whole) found.set(...record(key, "updated", { row: owned }));
  }
  for (const key of before.keys()) if (!after.has(key)) found.set(...record(key, "deleted"));
  const queue = await target<(PlannedRecord & { state: string })[]>`
    select c.entity_type as entity, c.source_record_id as "legacyId", c.state, c.field,
           case when c.state = 'resolved' then 'source_wins' else c.rule end as rule, p.entity_type as parent,
           c.parent_legacy_id as "parentId"
      from public.sync_conflicts c left join public.sync_entities p on p.id = c.parent_entity_id
     where (c.state in ('waiting', 'open') or c.resolution_strategy = 'source_wins' and c.resolved_by = 'policy' and c.execution_id = ${execution})
       and c.last_seen_at >= (select started_at from public.sync_executions where id = ${execution})
     order by c.state <> 'resolved'`;
  for (const { state, ...entry } of queue) {
    const key = `${entry.entity} ${entry.legacyId}`;
    const landed = found.get(key);
    if (state === "resolved" && landed) found.set(key, { ...landed, rule: entry.rule, field: entry.field });
    else found.set(...record(key, state === "waiting" ? "waiting" : "in_conflict", { ...entry, row: landed?.row ?? null }));
  }
  return [...found.values()].sort(byRecord);
}

/** Per entity what the pages of its records counted. */
export async function counted(target: Sql, execution: string): Promise<Record<string, unknown>[]> {
  return [
    ...(await target`
      select e.entity_type as entity, sum(l.read)::integer as read, sum(l.inserted)::integer as inserted,
             sum(l.updated)::integer as updated, sum(l.unchanged)::integer as unchanged, sum(l.deleted)::integer as deleted,
             sum(l.waiting)::integer as waiting, sum(l.in_conflict)::integer as in_conflict, sum(l.waived)::integer as waived,
             sum(l.absent)::integer as absent, sum(l.surplus)::integer as surplus
        from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id join public.sync_chains c on c.id = l.chain_id
       where l.execution_id = ${execution} and c.capture <> 'joins' group by 1 order by 1`),
  ];
}
