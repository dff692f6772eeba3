import type { Entity, Field, SourceRow } from "../entities/define-entity.ts";
import { KEY } from "../entities/define-entity.ts";
import type { Issue, LoadRecord } from "./types.ts";

/** UUIDs of landed parents, by `entity:legacyId`. */
export type ParentIds = ReadonlyMap<string, string>;

export interface Transformed {
  readonly records: readonly LoadRecord[];
  readonly issues: readonly Issue[];
}

export function parentKey(entity: string, legacyId: string): string {
  return `${entity}:${legacyId}`;
}

/** Every parent that the rows refer to, once. */
export function parentsOf(entity: Entity, rows: readonly SourceRow[]): { entity: string; legacyId: string }[] {
  const found = new Map<string, { entity: string; legacyId: string }>();
  const lookups = Object.values(entity.fields).filter((field) => field.parent !== undefined);
  for (const row of rows) {
    for (const field of lookups) {
      const legacyId = row[field.columns[0] ?? ""];
      if (field.parent !== undefined && legacyId != null) {
        found.set(parentKey(field.parent, legacyId), { entity: field.parent, legacyId });
      }
    }
  }
  return [...found.values()];
}

/**
 * Turns source rows into target rows. Pure: rows, parents' ids and own ids arrive as arguments.
 * A row that breaks a rule, or whose parent has not landed, becomes an issue; its own trouble is named first.
 */
export function transform(
  entity: Entity,
  rows: readonly SourceRow[],
  parents: ParentIds,
  ownIds: ReadonlyMap<string, string>,
): Transformed {
  const records: LoadRecord[] = [];
  const issues: Issue[] = [];
  const fields = Object.entries(entity.fields);
  for (const row of rows) {
    const key = row[KEY] ?? "";
    const values: Record<string, string | null> = {};
    const raw: Record<string, string | null> = {};
    let problem: Issue | undefined;
    let waiting: Issue | undefined;
    for (const [name, field] of fields) {
      const decision = field.decide(row);
      if ("problem" in decision) {
        problem ??= problemIssue(key, name, decision.problem);
        continue;
      }
      if (field.parent === undefined) {
        values[name] = decision.value;
        if (field.keepRaw) keepRaw(raw, field, row, decision.value);
        continue;
      }
      if (decision.value === null) {
        if (field.required) problem ??= missingReference(key, name, entity.name, field.parent);
        values[name] = null;
        continue;
      }
      const uuid = parents.get(parentKey(field.parent, decision.value));
      if (uuid === undefined) waiting ??= waitingIssue(key, name, field.parent, decision.value);
      else values[name] = uuid;
    }
    const issue = problem ?? waiting;
    if (issue) issues.push(issue);
    else records.push({ _key: key, _uuid: ownIds.get(key) ?? null, _raw: Object.keys(raw).length > 0 ? raw : null, ...values });
  }
  return { records, issues };
}

/** Only what the mapped value does not say already. */
function keepRaw(raw: Record<string, string | null>, field: Field, row: SourceRow, value: string | null): void {
  for (const column of field.columns) {
    const text = row[column] ?? null;
    if (text !== value) raw[column] = text;
  }
}

function problemIssue(
  k: string,
  field: string,
  problem: { rule: string; remedy: string; evidence?: Readonly<Record<string, string | null>> },
): Issue {
  return {
    k,
    state: "open",
    type: "business_rule_violation",
    field,
    rule: problem.rule,
    remedy: problem.remedy,
    data: problem.evidence ?? {},
  };
}

function missingReference(k: string, field: string, entity: string, parent: string): Issue {
  return {
    k,
    state: "open",
    type: "foreign_key_violation",
    field,
    rule: `${entity}.${field}.required@1`,
    remedy: `The record names no ${parent} record, which it needs: set the reference in the source.`,
    data: {},
  };
}

function waitingIssue(k: string, field: string, parent: string, parentId: string): Issue {
  return {
    k,
    state: "waiting",
    type: "foreign_key_violation",
    field,
    rule: "parent_missing@1",
    remedy: `Waits until ${parent} ${parentId} has landed; see that record in this queue. Nothing to do here.`,
    data: { parent, parentId },
    parent,
    parentId,
  };
}
