// The story of one record: what both sides and the control tables say of it, and what a run would make of it now.
// Writes nothing.
import type { Entity, Field, SourceRow } from "../entity/define-entity.ts";
import { MASK, sensitiveColumns } from "../entity/sensitive.ts";
import { IsthmusError } from "../errors.ts";
import { DIGEST } from "../source/projection.ts";
import { rowIsThere } from "../source/record-there.ts";
import { findMappings } from "../target/mappings.ts";
import { knownRecord, storyRow, type KnownRecord, type StoryRow } from "../target/record-story.ts";
import { mintUuid } from "./mint-uuid.ts";
import { RECORD_BYTES } from "./page-size.ts";
import { readProjection } from "./read.ts";
import { counterpartsOf, decided, landedAs, parentKey, parentsOf, transform, type ParentIds } from "./transform.ts";
import type { Context } from "../context.ts";
import type { Issue } from "../target/pages.ts";

/** How long a value may be that is told; the rest is cut. */
const LONGEST = 200;
const SEARCH_MS = 5_000;

/** What the source has: a record; a row that its entity does not count as one; one that is not transferred; one it cannot compute; one of more bytes than a page may have; nothing. */
type InSource = "present" | "not_a_record" | "waived" | "refused" | "too_large" | "absent";

interface StoryField {
  readonly field: string;
  readonly kind: string;
  readonly columns: readonly string[];
  /** What the source says, column by column, and what becomes of it; a hidden value is masked. */
  readonly before: Readonly<Record<string, string | null>>;
  readonly after: string | null;
  readonly target: string | null;
  readonly edited: boolean;
  readonly parent: { readonly entity: string; readonly id: string; readonly landed: boolean } | null;
  readonly rule: string | null;
  readonly remedy: string | null;
}

type Verdict =
  "insert" | "update" | "unchanged" | "compare" | "waiting" | "open" | "waived" | "gone" | "nothing" | "left_alone" | "decide";

export interface Story extends Omit<KnownRecord, "sourceId" | "namespace" | "columns" | "severities" | "state" | "definition"> {
  readonly entity: string;
  readonly id: string;
  readonly source: { readonly table: string; readonly row: InSource };
  readonly target: { readonly table: string; readonly id: string; readonly row: boolean; readonly asLeft: boolean | null };
  readonly state: (Omit<NonNullable<KnownRecord["state"]>, "digest"> & { readonly sourceChanged: boolean | null }) | null;
  readonly fields: readonly StoryField[];
  /** Parts that the caller has no right to see. */
  readonly withheld: readonly string[];
  readonly run: { readonly verdict: Verdict; readonly why: string };
}

/**
 * One record's whole story, by index probes of that record alone. `values`: whether the caller may see values and the
 * queue; without, values are masked and the queue is withheld.
 * @throws IsthmusError NOT_FOUND where there is no such entity, REQUEST_INVALID where the id is none.
 */
export async function explain(context: Context, name: string, given: string, rights: { values: boolean }): Promise<Story> {
  const { source, target, config, clock, entities } = context;
  const entity = entities.get(name);
  if (!entity) {
    const there = [...entities.keys()].sort().join(", ");
    throw new IsthmusError("NOT_FOUND", `There is no entity ${JSON.stringify(name.slice(0, 60))}; there are ${there}.`);
  }
  const id = legacyId(given);
  const known = await knownRecord(target, config.SOURCE_NAME, name, id);
  if (!known) throw new IsthmusError("NOT_FOUND", `Nothing is known of ${name} yet: no execution has begun.`);
  const read = await readProjection(source, entity, [id], { bytes: RECORD_BYTES, searchMs: SEARCH_MS, clock });
  const row = read.rows[0];
  const inSource: InSource =
    row !== undefined
      ? "present"
      : read.outside.length > 0
        ? "waived"
        : read.refused.length > 0
          ? "refused"
          : read.fits !== undefined
            ? "too_large"
            : (await rowIsThere(source, entity, id))
              ? "not_a_record"
              : "absent";
  const uuid = known.mapping?.uuid ?? mintUuid(known.namespace, name, id);
  const there = await storyRow(target, entity.target.table, known, name, known.sourceId, id, uuid);
  const rows = row === undefined ? [] : [row];
  const asked = [...parentsOf(entity, rows), ...counterpartsOf(entity, rows)];
  const found = await findMappings(target, known.sourceId, asked);
  const parents: ParentIds = new Map(
    found.filter(({ active }) => active).map((one) => [parentKey(one.entity, one.legacyId), one.uuid]),
  );
  const issue = transform(entity, rows, parents, new Map([[id, uuid]]), known.severities).issues[0];
  const changed = row === undefined || known.state?.digest == null ? null : row[DIGEST] !== known.state.digest;
  const {
    sourceId: _source,
    namespace: _namespace,
    columns: _columns,
    severities: _severities,
    definition,
    state,
    ...told
  } = known;
  const redefined = definition !== null && definition !== context.hashes.get(name);
  return {
    entity: name,
    id,
    source: { table: entity.source.table, row: inSource },
    target: { table: entity.target.table, id: uuid, row: there !== undefined, asLeft: there?.asLeft ?? null },
    ...told,
    ...(rights.values ? {} : { conflicts: [], executions: [], waiters: [], moreWaiters: false }),
    withheld: rights.values ? [] : ["values", "conflicts", "executions", "waiters"],
    state: state && { syncedAt: state.syncedAt, goneAt: state.goneAt, outside: state.outside, sourceChanged: changed },
    fields: Object.entries(entity.fields).map(([field, how]) =>
      fieldStory(entity, field, how, { id, row, there, parents, issue }, rights.values),
    ),
    run: verdictOf(entity, inSource, known, { there, digest: row?.[DIGEST], changed, redefined, issue }, rights.values),
  };
}

function legacyId(given: string): string {
  if (/^-?\d{1,19}$/.test(given)) {
    const id = BigInt(given);
    if (id === BigInt.asIntN(64, id)) return id.toString();
  }
  throw new IsthmusError("REQUEST_INVALID", "id: must be an integer within bigint.");
}

interface Sides {
  readonly id: string;
  readonly row: SourceRow | undefined;
  readonly there: StoryRow | undefined;
  readonly parents: ParentIds;
  readonly issue: Issue | undefined;
}

function fieldStory(
  entity: Entity,
  name: string,
  field: Field,
  { id, row, there, parents, issue }: Sides,
  seen: boolean,
): StoryField {
  const hidden = sensitiveColumns(entity);
  const shown = (value: string | null | undefined, masked: boolean) =>
    value == null ? null : masked || !seen ? MASK : value.length > LONGEST ? `${value.slice(0, LONGEST)}…` : value;
  const decision = row && decided(entity.name, name, field, row, landedAs(field, id, parents));
  const value = decision && "value" in decision ? decision.value : null;
  const uuid = field.parent === undefined || value === null ? undefined : parents.get(parentKey(field.parent, value));
  const problem = decision && "problem" in decision ? decision.problem : undefined;
  const stopped = issue?.field?.split(", ").includes(name) === true ? issue : undefined;
  return {
    field: name,
    kind: field.kind,
    columns: field.columns,
    before: row
      ? Object.fromEntries(field.columns.map((column) => [column, shown(row[column], field.sensitive || hidden.has(column))]))
      : {},
    after: shown(field.parent === undefined ? value : uuid, field.sensitive),
    target: shown(there?.values[name], field.sensitive),
    edited: there?.edited.includes(name) ?? false,
    parent:
      field.parent === undefined || value === null || field.sensitive || !seen
        ? null
        : { entity: field.parent, id: value, landed: uuid !== undefined },
    rule: problem?.rule ?? stopped?.rule ?? null,
    // That of a record that waits names its parent.
    remedy: problem?.remedy ?? (stopped?.state === "waiting" && !seen ? null : stopped?.remedy) ?? null,
  };
}

function verdictOf(
  entity: Entity,
  inSource: InSource,
  known: KnownRecord,
  {
    there,
    digest,
    changed,
    redefined,
    issue,
  }: {
    readonly there: StoryRow | undefined;
    readonly digest: string | null | undefined;
    readonly changed: boolean | null;
    readonly redefined: boolean;
    readonly issue: Issue | undefined;
  },
  seen: boolean,
): Story["run"] {
  const landed = known.mapping?.active === true;
  // As sync.collect_issues: it stands for what was decided on, and while the source does not change the record.
  const standing = known.conflicts.find(
    (one) => one.standing && one.digest === (digest ?? null) && (!issue || one.rule === issue.rule),
  );
  const ambiguous = known.conflicts.find((one) => one.state === "open" && one.rule === "adoption.ambiguous");
  if (inSource === "too_large") return { verdict: "open", why: "The record has more bytes than a page may have." };
  if (inSource === "refused") return { verdict: "open", why: "The source cannot compute the record." };
  if (inSource === "waived") {
    const { name = "", version = 0, onLeave = "keep" } = entity.source.predicate ?? {};
    const leaves = landed ? ` Its target row: ${onLeave}.` : "";
    return { verdict: "waived", why: `The predicate ${name}@${version} does not let the record in.${leaves}` };
  }
  if (inSource !== "present") {
    const row =
      inSource === "absent" ? "The source has no such row" : "The row of the source is no record of this entity (where)";
    if (!landed) return { verdict: "nothing", why: `${row}, and nothing of it has landed.` };
    const { onDelete } = entity;
    return {
      verdict: "gone",
      why: `${row}; the record had landed. onDelete: ${typeof onDelete === "string" ? onDelete : "soft"}.`,
    };
  }
  if (ambiguous) return { verdict: "open", why: `Several target rows may be the record: ${ambiguous.remedy}` };
  if (standing) return { verdict: "left_alone", why: "A decision for the target stands until the source changes the record." };
  if (issue) {
    const { parent, parentId } = issue;
    if (issue.state === "waiting")
      return {
        verdict: "waiting",
        why: `${[parent ?? "A parent", ...(seen && parentId !== undefined ? [parentId] : [])].join(" ")} has not landed.`,
      };
    if (Object.entries(entity.conflicts.types).some(([type, strategy]) => type === issue.type && strategy === "target_wins"))
      return { verdict: "left_alone", why: `${issue.rule}: conflicts.types.${issue.type} is target_wins.` };
    return { verdict: "open", why: `${issue.rule}: ${issue.remedy}` };
  }
  if (!landed) return { verdict: "insert", why: "The record has not landed, and nothing stops it before the target is asked." };
  if (!there)
    return { verdict: "decide", why: `Somebody has deleted the target row. conflicts.deleted: ${entity.conflicts.deleted}.` };
  if (redefined)
    return {
      verdict: "compare",
      why: "The next run reads the whole entity and compares both sides, as after a change of its definition.",
    };
  if (changed === null || (changed && there.asLeft !== true))
    return { verdict: "compare", why: "Both sides are compared field by field, by the strategy of each field." };
  if (changed) return { verdict: "update", why: "The source has changed the record, and nobody has edited the target row." };
  if (there.asLeft === true) return { verdict: "unchanged", why: "Both sides are as the sync left them." };
  return { verdict: "unchanged", why: "The source is as the sync saw it last; what was edited on the target stays." };
}
