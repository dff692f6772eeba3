import type { Sql } from "postgres";
import type { Table } from "./catalog.ts";
import { isOfValue, type Finding, type Kind, type Told } from "./finding.ts";
import { quote, type Recomputed } from "./recompute.ts";
import type { Difference } from "./values.ts";

interface Entry {
  readonly id: string;
  /** The fields that it is about; null: the record as a whole. */
  readonly fields: readonly string[] | null;
}

/** Everything in the target that answers for a difference of an entity. */
export interface Answers {
  /** What is waiting or open. */
  readonly queue: readonly Entry[];
  /** Of these, who waits for a record that has landed. */
  readonly waitsForLanded: readonly string[];
  /** What a person or a policy has decided for the target. */
  readonly decisions: readonly Entry[];
  /** Fields that the target has changed while they were written. */
  readonly warnings: readonly { readonly id: string; readonly field: string }[];
  /** Records that are gone and whose rows stay. */
  readonly kept: ReadonlySet<string>;
  /** Records that are to be read again. */
  readonly pending: ReadonlySet<string>;
  /** Rows that an adoption has found to be second ones. */
  readonly duplicates: ReadonlySet<string>;
  /** Open alerts of the entity. */
  readonly alerts: ReadonlySet<string>;
}

export async function answersOf(target: Sql, { entity }: Recomputed): Promise<Answers> {
  const of = `join public.sync_entities e on e.id = x.entity_id where e.entity_type = ${quote(entity)}`;
  const fields = `case when x.rule = 'both_changed' then array(select jsonb_object_keys(coalesce(x.differences, '{}'))) end as fields`;
  const list = async (sql: string) => new Set((await target.unsafe<{ id: string }[]>(sql)).map(({ id }) => id));
  return {
    queue: await target.unsafe<Entry[]>(
      `select x.source_record_id::text as id, ${fields} from public.sync_conflicts x ${of} and x.state in ('waiting', 'open')`,
    ),
    waitsForLanded: [
      ...(await list(`
        select x.source_record_id::text as id from public.sync_conflicts x
          join public.sync_entities p on p.id = x.parent_entity_id
          join public.uuid_mappings_enhanced m on m.source_id = p.source_id and m.entity_type = p.entity_type and m.legacy_id = x.parent_legacy_id
           and m.sync_status <> 'deleted' ${of} and x.state = 'waiting'`)),
    ],
    decisions: await target.unsafe<Entry[]>(
      `select x.source_record_id::text as id, ${fields} from public.sync_conflicts x ${of}
          and x.state = 'resolved' and (x.standing or x.rule = 'both_changed' and x.resolution_strategy in ('target_wins', 'merge'))`,
    ),
    warnings: await target.unsafe<{ id: string; field: string }[]>(
      `select x.legacy_id::text as id, substr(x.rule, 20) as field from public.sync_warnings x ${of} and x.rule like 'written\\_otherwise: %'`,
    ),
    kept: await list(`select x.legacy_id::text as id from public.sync_row_states x ${of} and x.gone_at is not null`),
    pending: await list(`select x.legacy_id::text as id from public.sync_pending_keys x ${of}`),
    duplicates: await list(`select x.legacy_id::text as id from public.sync_adoption_rows x ${of}`),
    alerts: await list(`select x.kind as id from public.sync_alerts x ${of} and x.closed_at is null`),
  };
}

/** Who may answer for each kind; for one that is not here, nobody. */
const MAY: Readonly<Partial<Record<Kind, readonly Told[]>>> = {
  value: ["queue", "decision", "trigger", "edit", "pending", "alert"],
  form: ["queue", "decision", "trigger", "edit", "pending", "alert"],
  inexact: ["queue", "decision", "edit", "pending", "alert"],
  row_missing: ["queue", "decision", "pending", "alert"],
  row_surplus: ["queue", "decision", "kept", "pending", "alert"],
  row_twice: ["queue", "alert"],
  row_without_mapping: ["queue", "alert"],
  mapping_without_row: ["queue", "decision", "alert"],
  mapping_without_state: ["queue"],
};

/** Alerts that say that an entity is not compared, or that not everything is done. */
const STOPPED = ["contract_broken", "brake", "page_stalled"];

/** Who answers for a finding. */
export function answering(
  definition: Recomputed,
  table: Table,
  answers: Answers,
  finding: Finding | Difference,
): Told | undefined {
  const { kind, id = "", column } = finding;
  const about = (entries: readonly Entry[]) =>
    entries.some(
      (entry) => entry.id === id && (entry.fields === null || (column !== undefined && entry.fields.includes(column))),
    );
  const warned = answers.warnings.some((one) => one.id === id && one.field === column);
  const answered: Readonly<Record<Told, () => boolean>> = {
    queue: () => about(answers.queue),
    decision: () => about(answers.decisions),
    // A trigger that nobody finds has changed nothing; and what has been edited since is an edit.
    trigger: () => warned && table.triggers.length > 0 && "asLeft" in finding && finding.asLeft,
    edit: () => "edited" in finding && finding.edited,
    kept: () => definition.keepsAbsent === true || answers.kept.has(id),
    pending: () => answers.pending.has(id),
    alert: () =>
      STOPPED.some((one) => answers.alerts.has(one)) ||
      (kind === "row_twice" && answers.alerts.has("surplus") && answers.duplicates.has(id)),
  };
  return MAY[kind]?.find((one) => answered[one]());
}

/** Entries of the queue and warnings that nothing explains: both sides agree. */
export function idleAnswers(answers: Answers, findings: readonly Finding[]): Finding[] {
  const concerned = new Set(findings.map(({ id }) => id));
  const differs = new Set(findings.filter(isOfValue).map(({ id, column }) => `${id ?? ""} ${column ?? ""}`));
  return [
    ...answers.queue.filter(({ id }) => !concerned.has(id)).map(({ id }) => ({ kind: "queue_for_nothing" as const, id })),
    ...answers.waitsForLanded.map((id) => ({ kind: "waits_for_landed" as const, id })),
    ...answers.warnings
      .filter(({ id, field }) => !differs.has(`${id} ${field}`))
      .map(({ id, field }) => ({ kind: "warning_for_nothing" as const, id, column: field })),
  ];
}
