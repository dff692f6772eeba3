import type { Story } from "./answers.ts";
import { formatTable } from "./output.ts";

const IN_SOURCE: Readonly<Record<string, string>> = {
  present: "there",
  not_a_record: "there, but no record of this entity",
  waived: "there, but not transferred",
  refused: "there, but the source cannot compute the record",
  too_large: "there, with more bytes than a page may have",
  absent: "not there",
};

/** The story of one record for a person: what a run would do comes first. */
export function showStory(told: Story): string {
  const { source, target, mapping, state } = told;
  const parts = [
    `${told.entity} ${told.id}\n`,
    `a run now:  ${told.run.verdict}. ${told.run.why}\n`,
    `source:     ${source.table}: ${IN_SOURCE[source.row] ?? source.row}\n`,
    `mapping:    ${mapping ? `${mapping.uuid}${mapping.active ? "" : " (deleted)"}, since ${mapping.since}` : "none: the record has not landed"}\n`,
    `target:     ${target.table} ${target.id}: ${target.row ? `there${showEdits(target.asLeft)}` : "not there"}\n`,
    `row state:  ${state ? showState(state) : "none"}\n`,
  ];
  if (told.asked !== null) parts.push(`asked for:  the next execution reads the record (${told.asked})\n`);
  if (told.warnings.length > 0) parts.push(`landed although these rules are broken: ${told.warnings.join(", ")}\n`);
  const rows = told.fields.map((field) => [
    `${field.field}${field.edited ? " (edited)" : ""}`,
    field.kind,
    Object.entries(field.before)
      .map(([column, value]) => `${column}=${oneLine(value)}`)
      .join(" "),
    oneLine(field.after),
    oneLine(field.target),
    field.rule ?? (field.parent && !field.parent.landed ? `waits for ${field.parent.entity} ${field.parent.id}` : "-"),
  ]);
  parts.push("\n", formatTable(["field", "transformation", "source", "becomes", "target", "stopped by"], rows));
  for (const one of told.conflicts) {
    const decided =
      one.resolvedAt === null ? "" : `, ${one.strategy ?? "closed"} by ${one.resolvedBy ?? "-"} at ${one.resolvedAt}`;
    const waits = one.state === "waiting" && one.parent ? `, waits for ${one.parent.entity} ${one.parent.id}` : "";
    parts.push(
      `\nconflict ${one.id}: ${one.state}, ${one.rule}${one.field === null ? "" : ` (${one.field})`}${waits}${decided}\n`,
    );
    if (one.candidates.length > 0) parts.push(`  may be one of: ${one.candidates.join(", ")}\n`);
    parts.push(`  What to do: ${one.remedy}\n`);
  }
  if (told.waiters.length > 0) {
    const more = told.moreWaiters ? ", and more" : "";
    parts.push(`\nwait for this record: ${told.waiters.map(({ entity, id }) => `${entity} ${id}`).join(", ")}${more}\n`);
  }
  for (const { id, status, startedAt } of told.executions)
    parts.push(`\nnamed in the queue by execution ${id}: ${status}, started ${startedAt}\n`);
  if (told.withheld.length > 0) parts.push(`\nNot for your role: ${told.withheld.join(", ")}.\n`);
  return parts.join("");
}

function showEdits(asLeft: boolean | null): string {
  if (asLeft === null) return "";
  return asLeft ? ", as the sync left it" : ", edited since";
}

function showState(state: NonNullable<Story["state"]>): string {
  const gone =
    state.goneAt === null ? "" : `, ${state.outside ? "outside its predicate" : "gone from the source"} since ${state.goneAt}`;
  const changed = state.sourceChanged === true ? ", changed in the source since" : "";
  return `synced ${state.syncedAt}${gone}${changed}`;
}

/** A value in a cell: control characters of a record move no cursor. */
function oneLine(value: string | null): string {
  return value === null ? "NULL" : value.replace(/[\p{Cc}\p{Cf}]/gu, "·").slice(0, 40);
}
