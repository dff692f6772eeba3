import type { Parties } from "./identities.ts";
import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import { sensitiveColumns } from "../entity/sensitive.ts";
import { ruleName } from "../entity/rules.ts";
import type { PageMessage } from "./sending.ts";
import type { EntityShapes } from "./entity-shapes.ts";
import type { SourcePosition } from "../sql/position.ts";
import { IF_FITTING } from "../sql/fitting.ts";

export interface Checkpoint {
  readonly entity: string;
  readonly horizon: string;
  /** The first transaction id that was not assigned then; null: not known. */
  readonly snapshot_xmax: string | null;
  readonly system_identifier: string;
  readonly timeline: number;
  readonly database_oid: string;
  /** Starts of the servers that answered for the entity. */
  readonly server_starts: readonly string[];
  readonly definition_hash: string;
  /** What is stamped later, or then with a higher key (null: with any), no run has read as modified. */
  readonly watermark_at: string;
  readonly watermark_id: string | null;
}

/**
 * Registers the source on first use and returns its id. Whatever begins something begins with this statement.
 * @throws IsthmusError SCHEMA_OUTDATED, SCHEMA_AHEAD where this database and these functions do not fit.
 */
export async function beginSource(target: Queryable, name: string): Promise<number> {
  const text = `select sync.begin_source($1)::integer as id ${IF_FITTING}`;
  return (await queryOne<{ id: number }>(target, "target", text, [name])).id;
}

/** Whether this target was put back to an older state since the last execution; then the next ones compare both sides. */
export async function noticeTarget(target: Queryable, sourceId: number, remembered: number | null): Promise<boolean> {
  const row = await queryOne<{ restored: boolean }>(
    target,
    "target",
    "select sync.notice_target($1::integer::smallint, $2::bigint) as restored",
    [sourceId, remembered],
  );
  return row.restored;
}

/** Writes the entities' definitions, with the types that the target's catalog gives their columns. */
export async function registerEntities(
  target: Queryable,
  sourceId: number,
  entities: readonly Entity[],
  hashes: ReadonlyMap<string, string>,
): Promise<void> {
  const definitions = entities.map((entity) => ({
    entity_type: entity.name,
    source_table: entity.source.table,
    target_table: entity.target.table,
    legacy_key: entity.target.legacyKey,
    depends_on: entity.dependsOn,
    on_delete: onDeleteOf(entity),
    conflicts: entity.conflicts,
    predicate: predicateOf(entity),
    history: entity.history,
    rules: entity.rules.map((rule) => ({
      rule: ruleName(entity.name, rule),
      severity: rule.severity,
      fields: rule.fields,
      remedy: rule.remedy,
    })),
    definition_hash: hashes.get(entity.name) ?? "",
    columns: Object.entries(entity.fields).map(([name, field]) => ({
      name,
      money: field.money,
      sensitive: field.sensitive,
      hides: field.sensitive ? field.columns.filter((column) => sensitiveColumns(entity).has(column)) : [],
      parent: field.parent ?? null,
    })),
  }));
  await query(target, "target", "select sync.register_entities($1::integer::smallint, $2::text::jsonb)", [
    sourceId,
    JSON.stringify(definitions),
  ]);
}

/** Rows of the queue that a start masks at once; the rest follows with the next ticks. */
const MASKED_AT_ONCE = 10_000;

/** Notes which entities no file has any more, and masks in the queue what has become sensitive. `names`: all that this deployment has. */
export async function noteDefinitions(target: Queryable, sourceId: number, names: readonly string[]): Promise<void> {
  await query(
    target,
    "target",
    `select sync.note_removed($1::integer::smallint, array(select jsonb_array_elements_text($2::text::jsonb))), sync.mask_queue($1::integer::smallint, $3)`,
    [sourceId, JSON.stringify(names), MASKED_AT_ONCE],
  );
}

function onDeleteOf({ onDelete }: Entity): object {
  return typeof onDelete === "string" ? { policy: onDelete } : { policy: "soft", set: onDelete.soft };
}

function predicateOf({ name, source: { predicate } }: Entity): object | null {
  if (!predicate) return null;
  return {
    rule: ruleName(name, { id: predicate.name, version: predicate.version }),
    reason: predicate.reason,
    on_leave: predicate.onLeave,
  };
}

/**
 * Allows minting for entities whose target table is empty; a dry run only asks whether it could.
 * @throws IsthmusError TARGET_NOT_EMPTY when a table holds rows that nobody has adopted.
 */
export async function openEntities(
  target: Queryable,
  sourceId: number,
  names: readonly string[],
  dryRun: boolean,
): Promise<void> {
  await query(
    target,
    "target",
    `select sync.open_entity(e.id, $3) from public.sync_entities e
      where e.source_id = $1 and e.entity_type in (select jsonb_array_elements_text($2::text::jsonb))`,
    [sourceId, JSON.stringify(names), dryRun],
  );
}

export async function checkpoints(target: Queryable, sourceId: number): Promise<Checkpoint[]> {
  return query<Checkpoint>(
    target,
    "target",
    `select entity_type as entity, horizon::text, snapshot_xmax::text, system_identifier, timeline, database_oid::text,
            pg_catalog.to_json(server_starts) as server_starts, definition_hash, watermark_at, watermark_id::text
       from public.sync_checkpoints where source_id = $1`,
    [sourceId],
  );
}

/** An execution to begin, with its first chains. */
export interface NewExecution {
  /** `release` reads what is pending, `adopt` takes ids over: neither compares both sides or moves a checkpoint. `plan`: dry run. */
  readonly kind: "sync" | "plan" | "release" | "adopt";
  readonly source_id: number;
  readonly job_id: string | null;
  readonly triggered_by: string;
  readonly parties: Parties;
  readonly request: object;
  readonly entities: readonly string[];
  readonly page_size: number;
  readonly chains: readonly object[];
  readonly idle: readonly object[];
  /** More than this share of an entity, and more than so many records, is deleted or emptied only when a person has confirmed it. */
  readonly brake: {
    readonly share: number;
    readonly records: number;
    /** The same for values that are overwritten. */
    readonly overwriteShare: number;
    readonly overwriteRecords: number;
  };
  /** Entities that are read in full because the source was restored to an older state. */
  readonly restored?: readonly string[];
  /** Entities that are read in full because the source is on another timeline. */
  readonly promoted?: readonly string[];
  /** What is told of a transaction that keeps the horizon from moving; null: none does. */
  readonly horizon_held?: { readonly message: string; readonly details: object } | null;
  /** In what shapes of their tables entities will have been compared when the execution succeeds. */
  readonly shapes?: readonly Pick<EntityShapes, "entity" | "target" | "source">[];
  /** Reads what a request selected: it may run beside others. */
  readonly selective?: boolean;
  /** Records to read, whether they have changed or not: { entity, k, reason }. */
  readonly requested?: readonly object[];
  /** What the check of the catalogs found on the requested entities; kept as a report where it found anything. */
  readonly contract?: { readonly paused: readonly object[]; readonly warnings: readonly object[] };
}

/** An execution that has begun, and its first messages. */
export interface Begun {
  readonly execution: string;
  /** Counts executions. */
  readonly ordinal: number;
  readonly dispatch: PageMessage[];
}

/** Begins the execution at the source's position, in one statement. @throws IsthmusError EXECUTION_ACTIVE. */
export async function beginExecution(
  target: Queryable,
  { xmin, xmax, ...node }: SourcePosition,
  execution: NewExecution,
): Promise<Begun> {
  const row = await queryOne<{ begun: Begun }>(
    target,
    "target",
    `select sync.begin_execution($1::text::jsonb) as begun ${IF_FITTING}`,
    [JSON.stringify({ ...execution, ...node, horizon: xmin, snapshot_xmax: xmax })],
  );
  return row.begun;
}

/** The id of the running execution that covers one of the entities, if any; one that reads a selection runs beside others. */
export async function activeExecution(
  target: Queryable,
  sourceId: number,
  names: readonly string[],
): Promise<string | undefined> {
  const rows = await query<{ id: string }>(
    target,
    "target",
    `select id from public.sync_executions
      where source_id = $1 and status = 'running' and not selective and entities && array(select jsonb_array_elements_text($2::text::jsonb))
      order by started_at limit 1`,
    [sourceId, JSON.stringify(names)],
  );
  return rows[0]?.id;
}
