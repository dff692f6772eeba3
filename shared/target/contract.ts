import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";
import { TARGET_CATALOG, type TargetCatalog } from "./catalog.ts";
import type { CatalogReading } from "../sql/catalog-reading.ts";

/** Something that a write to an application table sets off. */
export interface SideEffect {
  readonly kind: string;
  readonly table: string;
  readonly name: string;
  readonly does: string;
  /** Fingerprint of its definition. */
  readonly definition: string;
}

/** What the last check left behind. `Finding` is the check's own type. */
export interface ContractState<Finding> {
  readonly target: CatalogReading<TargetCatalog>;
  /** The last comparison, if it was of these definitions. */
  readonly known: {
    readonly sourceFingerprint: string;
    readonly findings: readonly Finding[];
    /** Entities whose statements this source has planned. */
    readonly planned: readonly string[];
  } | null;
  readonly unacknowledged: readonly SideEffect[];
  /** Entities whose first load is done. */
  readonly loaded: readonly string[];
  /** Entities of which an open alert says that they do not fit. */
  readonly alerted: readonly string[];
  /** Warnings of which an alert has told. */
  readonly warned: readonly string[];
}

export interface ContractQuery {
  readonly sourceId: number;
  readonly tables: readonly string[];
  /** Fingerprint of the entity definitions. */
  readonly definitions: string;
  /** Reads the catalog even if it is the one of the last comparison. */
  readonly fresh: boolean;
}

/** The target's catalog and what the last check found, in one statement. */
export async function readContractState<Finding>(
  target: Queryable,
  { sourceId, tables, definitions, fresh }: ContractQuery,
): Promise<ContractState<Finding>> {
  const row = await queryOne<{ state: string }>(
    target,
    "target",
    `with published as (select pubname, tablename from pg_publication_tables where schemaname = 'public'),
          catalog as materialized (select t.body, md5(t.body::text) as fingerprint from (${TARGET_CATALOG}) t),
          last as (select * from public.sync_contract_checks where source_id = $2::integer::smallint),
          known as (select * from last where definitions = $3)
     select jsonb_build_object(
              'target', jsonb_build_object('fingerprint', c.fingerprint, 'catalog', case
                 when $4::text::boolean or c.fingerprint is distinct from (select target_fingerprint from known) then c.body end),
              'known', (select jsonb_build_object('sourceFingerprint', source_fingerprint, 'findings', findings, 'planned', planned) from known),
              'unacknowledged', sync.unacknowledged_effects($2::integer::smallint),
              'loaded', (select coalesce(pg_catalog.jsonb_agg(entity_type), '[]') from public.sync_checkpoints where source_id = $2::integer::smallint),
              'alerted', (select coalesce(pg_catalog.jsonb_agg(e.entity_type), '[]')
                            from public.sync_alerts a join public.sync_entities e on e.id = a.entity_id
                           where a.kind = 'contract_broken' and a.closed_at is null and e.source_id = $2::integer::smallint),
              'warned', coalesce((select warned from last), '[]'))::text as state
       from catalog c`,
    [JSON.stringify(tables), sourceId, definitions, String(fresh)],
  );
  return JSON.parse(row.state) as ContractState<Finding>;
}

/** Keeps a comparison. @returns the effects that nobody has acknowledged. */
export async function storeContractCheck(
  target: Queryable,
  sourceId: number,
  check: {
    readonly definitions: string;
    /** The target tables that were looked at. */
    readonly tables: readonly string[];
    readonly sourceFingerprint: string;
    readonly targetFingerprint: string;
    readonly findings: readonly object[];
    /** Entities whose statements this source has planned. */
    readonly planned: readonly string[];
    readonly effects: readonly SideEffect[];
  },
): Promise<SideEffect[]> {
  const row = await queryOne<{ effects: string }>(
    target,
    "target",
    "select sync.store_contract_check($1::integer::smallint, $2::text::jsonb)::text as effects",
    [sourceId, JSON.stringify(check)],
  );
  return JSON.parse(row.effects) as SideEffect[];
}

export interface ContractAlert {
  readonly entity: string;
  readonly kind: "contract_broken" | "contract_warning";
  readonly severity: "critical" | "warning";
  readonly message: string;
  readonly details: object;
}

/** Opens alerts, closes those of entities that fit again, and keeps of which warnings an alert has told. */
export async function alertContract(
  target: Queryable,
  sourceId: number,
  alerts: readonly ContractAlert[],
  mended: readonly string[],
  warned: readonly string[],
): Promise<void> {
  await query(
    target,
    "target",
    "select sync.alert_contract($1::integer::smallint, $2::text::jsonb, $3::text::jsonb, $4::text::jsonb)",
    [sourceId, JSON.stringify(alerts), JSON.stringify(mended), JSON.stringify(warned)],
  );
}

/** Acknowledges what writes to these tables set off. @returns what was not acknowledged before. */
export async function acknowledgeSideEffects(
  target: Queryable,
  tables: readonly string[] | undefined,
  by: string,
): Promise<Omit<SideEffect, "definition">[]> {
  return query(
    target,
    "target",
    `select kind, table_name as table, name, does from sync.acknowledge_side_effects($1::text::jsonb, $2) order by table_name, kind, name`,
    [tables === undefined ? null : JSON.stringify(tables), by],
  );
}

/** What writes set off, acknowledged or not. */
export async function sideEffectsKnown(
  target: Queryable,
): Promise<(Omit<SideEffect, "definition"> & { readonly acknowledged: boolean })[]> {
  return query(
    target,
    "target",
    `select kind, table_name as table, name, does, acknowledged_at is not null as acknowledged
       from public.sync_side_effects order by table_name, kind, name`,
  );
}
