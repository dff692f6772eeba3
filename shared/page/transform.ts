import { type Decision, type Entity, type Field, type Problem, type SourceRow, KEY } from "../entity/define-entity.ts";
import { ruleName, type RecordRule, type Severity, type ValueRule } from "../entity/rules.ts";
import { MASK, sensitiveColumns } from "../entity/sensitive.ts";
import { DIGEST } from "../source/projection.ts";
import type { Issue, LoadRecord, Warning } from "../target/pages.ts";

/** UUIDs of landed parents and counterparts, by `entity:legacyId`. */
export type ParentIds = ReadonlyMap<string, string>;

export interface Transformed {
  readonly records: readonly LoadRecord[];
  readonly issues: readonly Issue[];
  /** Records that land although they break a rule. */
  readonly warnings: readonly Warning[];
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

/** The same records in the other entities as which a field asks whether they have landed. */
export function counterpartsOf(entity: Entity, rows: readonly SourceRow[]): { entity: string; legacyId: string }[] {
  const others = new Set(Object.values(entity.fields).flatMap((field) => field.landedAs ?? []));
  return [...others].flatMap((other) => rows.map((row) => ({ entity: other, legacyId: row[KEY] ?? "" })));
}

/**
 * Turns source rows into target rows. Pure: rows, parents' ids and own ids arrive as arguments. A row that breaks a
 * rule, or whose parent has not landed, becomes an issue; its own trouble is named first. A parent of the same entity
 * on the same page counts as landed: the records are loaded together, with `_together` to tell what holds them so.
 */
export function transform(
  entity: Entity,
  rows: readonly SourceRow[],
  parents: ParentIds,
  ownIds: ReadonlyMap<string, string>,
  severities: Readonly<Record<string, Severity>> = {},
): Transformed {
  const records: LoadRecord[] = [];
  const issues: Issue[] = [];
  const warnings: Warning[] = [];
  const fields = Object.entries(entity.fields);
  const sensitive = sensitiveColumns(entity);
  const copied = copiedColumns(entity);
  const present = new Set(rows.map((row) => row[KEY] ?? ""));
  const relatives: Relative[] = [];
  for (const row of rows) {
    const key = row[KEY] ?? "";
    // Without a prototype: a column may have any name.
    const values = Object.create(null) as Record<string, string | null>;
    const raw: Record<string, string | null> = {};
    // Parents of the page's own entity that have not landed and are on the page, by field.
    const together: Record<string, string> = {};
    let problem: Issue | undefined;
    let waiting: Issue | undefined;
    let beside: Issue | undefined;
    for (const [name, field] of fields) {
      const decision = decided(entity.name, name, field, row, landedAs(field, key, parents));
      if ("problem" in decision) {
        problem ??= problemIssue(key, name, decision.problem, sensitive);
        continue;
      }
      if (decision.value === null) {
        if (field.required) problem ??= missing(key, name, entity.name, field.parent);
        values[name] = null;
        if (field.keepRaw) keepRaw(raw, field, row, null, copied);
        continue;
      }
      if (field.parent === undefined) {
        const { value } = decision;
        const broken = field.rules.find((rule) => !holds(rule, value));
        if (broken) problem ??= brokenRule(key, name, `${entity.name}.${name}`, broken);
        values[name] = value;
        if (field.keepRaw) keepRaw(raw, field, row, value, copied);
        continue;
      }
      const uuid = parents.get(parentKey(field.parent, decision.value));
      if (uuid !== undefined) {
        values[name] = uuid;
      } else if (field.parent === entity.name && present.has(decision.value)) {
        values[name] = ownIds.get(decision.value) ?? null;
        together[name] = decision.value;
        beside ??= waitingIssue(key, name, field.parent, decision.value);
      } else {
        waiting ??= waitingIssue(key, name, field.parent, decision.value);
      }
    }
    // A rule sees whole records only: one that does not land anyway is not judged.
    const broken: Warning[] = [];
    if (!problem && !waiting) {
      for (const rule of entity.rules) {
        if (holds(rule, values)) continue;
        const name = ruleName(entity.name, rule);
        if ((severities[name] ?? rule.severity) === "park")
          problem ??= brokenRule(key, rule.fields.join(", "), entity.name, rule);
        else broken.push({ k: key, rule: name });
      }
    }
    const issue = problem ?? waiting;
    if (issue) {
      issues.push({ ...issue, digest: row[DIGEST] ?? null });
    } else {
      const record: LoadRecord = {
        _key: key,
        _uuid: ownIds.get(key) ?? null,
        _raw: Object.keys(raw).length > 0 ? raw : null,
        _digest: row[DIGEST] ?? null,
        _values: values,
      };
      if (beside) {
        relatives.push({
          record: { ...record, _together: together },
          warnings: broken,
          issue: { ...beside, digest: row[DIGEST] ?? null },
        });
      } else {
        records.push(record);
        warnings.push(...broken);
      }
    }
  }
  const landing = landingTogether(relatives, new Set(records.map(({ _key }) => _key)));
  for (const relative of relatives) {
    if (!landing.has(relative)) issues.push(relative.issue);
    else {
      records.push(relative.record);
      warnings.push(...relative.warnings);
    }
  }
  return { records, issues, warnings };
}

/** A record that refers to records of its own page that have not landed yet, or to itself. */
interface Relative {
  readonly record: LoadRecord;
  readonly warnings: readonly Warning[];
  /** What stops the record if one of those does not land with it. */
  readonly issue: Issue;
}

/** The largest set of relatives that refer to each other, and to records that land anyway, alone: circles among them. */
function landingTogether(relatives: readonly Relative[], landing: ReadonlySet<string>): ReadonlySet<Relative> {
  const keys = new Set(relatives.map(({ record }) => record._key));
  const needed = ({ record }: Relative) => Object.values(record._together ?? {});
  const children = new Map<string, Relative[]>();
  for (const relative of relatives)
    for (const key of needed(relative)) children.set(key, [...(children.get(key) ?? []), relative]);
  const together = new Set(relatives);
  const left = relatives.filter((relative) => needed(relative).some((key) => !keys.has(key) && !landing.has(key)));
  for (const relative of left) {
    together.delete(relative);
    left.push(...(children.get(relative.record._key) ?? []).filter((child) => together.delete(child)));
  }
  return together;
}

/** What one field makes of a row. A function of an entity file that throws has met this record alone: the record is named, and the page goes on. */
export function decided(entity: string, name: string, field: Field, row: SourceRow, landed: ReadonlySet<string>): Decision {
  try {
    return field.decide(row, landed);
  } catch (error) {
    const thrown = error instanceof Error ? error.name : "an error";
    return {
      problem: {
        rule: `${entity}.${name}.computed@1`,
        remedy: `The function of the entity file for ${name} fails on this record (${thrown}): correct the record in the source, or the function.`,
      },
    };
  }
}

/** Of the entities that a field asks about, those as which the record of the key has landed. */
export function landedAs(field: Field, key: string, ids: ParentIds): ReadonlySet<string> {
  return new Set(field.landedAs?.filter((other) => ids.has(parentKey(other, key))));
}

/** Columns that the target holds as they are. */
function copiedColumns(entity: Entity): ReadonlySet<string> {
  const copies = Object.values(entity.fields).filter((field) => field.kind === "direct_copy" && !field.keepRaw);
  return new Set(copies.flatMap((field) => field.columns));
}

/** Only what the target does not say already: a column without a copy there, and a text that is not the value itself. */
function keepRaw(
  raw: Record<string, string | null>,
  field: Field,
  row: SourceRow,
  value: string | null,
  copied: ReadonlySet<string>,
): void {
  for (const column of field.columns) {
    const text = row[column] ?? null;
    if (text !== value && !copied.has(column)) raw[column] = text;
  }
}

function problemIssue(k: string, field: string, problem: Problem, sensitive: ReadonlySet<string>): Issue {
  return {
    k,
    state: "open",
    type: "business_rule_violation",
    field,
    rule: problem.rule,
    remedy: problem.remedy,
    data: masked(problem.evidence ?? {}, sensitive),
  };
}

/** Evidence names columns and says what stands in them, one by one or as {column, raw}: never of a sensitive one. */
function masked(evidence: NonNullable<Problem["evidence"]>, sensitive: ReadonlySet<string>): Issue["data"] {
  const hides = (name: string) => sensitive.has(name === "raw" ? (evidence["column"] ?? "") : name);
  return Object.fromEntries(
    Object.entries(evidence).map(([name, value]) => [name, value !== null && hides(name) ? MASK : value]),
  );
}

/** A rule that cannot judge what it sees is broken: the record is named, and the page goes on. */
function holds<Judged>(rule: { readonly holds: (judged: Judged) => boolean }, judged: Judged): boolean {
  try {
    return rule.holds(judged);
  } catch {
    return false;
  }
}

function brokenRule(k: string, field: string, owner: string, rule: ValueRule | RecordRule): Issue {
  const { remedy } = rule;
  return { k, state: "open", type: "business_rule_violation", field, rule: ruleName(owner, rule), remedy, data: {} };
}

function missing(k: string, field: string, entity: string, parent: string | undefined): Issue {
  return {
    k,
    state: "open",
    type: parent === undefined ? "business_rule_violation" : "foreign_key_violation",
    field,
    rule: `${entity}.${field}.required@1`,
    remedy:
      parent === undefined
        ? "The record has no value here, which it needs: set it in the source."
        : `The record names no ${parent} record, which it needs: set the reference in the source.`,
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
    // The queue says what keeps the parent.
    remedy: `Waits for ${parent} ${parentId}.`,
    data: { parent, parentId },
    parent,
    parentId,
  };
}
