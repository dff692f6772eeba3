import { failuresOf, type ExecutionState, type PlannedEntity } from "./answers.ts";
import { COUNT_HEADINGS, countCells } from "./count-columns.ts";
import { formatTable } from "./output.ts";

/** What a dry run found, for a person: counts, reasons with examples, money. */
export function showPlan(state: ExecutionState): string {
  const head = `Plan ${state.execution}: ${state.status}. Nothing was written`;
  if (state.plan === null) return `${head}.\n${failuresOf(state).map(showFailure).join("")}`;
  const { entities } = state.plan;
  const parts = [`${head}; a run that begins now would do this.\n`, "\n", countsTable(entities)];
  const reasons = entities.flatMap(({ entity, outcomes }) =>
    outcomes
      .filter(({ rule, outcome }) => rule !== null || !SELF_EXPLANATORY.has(outcome))
      .map(({ outcome, rule, field, count, legacyIds, remedy }) => [
        entity,
        outcome.replace("_", " "),
        rule ?? "-",
        field ?? "-",
        count,
        examples(legacyIds, count),
        remedy ?? "-",
      ]),
  );
  if (reasons.length > 0) {
    parts.push("\nWhy:\n", formatTable(["entity", "outcome", "rule", "field", "records", "for example", "what to do"], reasons));
  }
  const warnings = entities.flatMap(({ warnings: all }) =>
    all.map(({ rule, count, legacyIds }) => [rule, count, examples(legacyIds, count)]),
  );
  if (warnings.length > 0) {
    parts.push("\nWould land although they break a rule:\n", formatTable(["rule", "records", "for example"], warnings));
  }
  const held = entities.flatMap(({ entity, brakes }) =>
    brakes.map(({ kind, field, records, landed }) => [
      entity,
      `${BRAKED[kind]}${field === null ? "" : ` in ${field}`}`,
      records,
      landed,
    ]),
  );
  if (held.length > 0) {
    parts.push(
      "\nThe brake would stop the run until somebody confirms it (sync_brakes):\n",
      formatTable(["entity", "would be", "records", "of landed"], held),
    );
  }
  const money = entities.flatMap(({ entity, money: columns }) =>
    Object.entries(columns).map(([column, { inserted, updated }]) => [`${entity}.${column}`, inserted, updated]),
  );
  if (money.length > 0) parts.push("\n", formatTable(["money", "inserted", "updated (new amounts)"], money));
  return parts.join("");
}

/** Outcomes whose count says it all. */
const SELF_EXPLANATORY: ReadonlySet<string> = new Set(["inserted", "updated", "deleted"]);
const BRAKED = { delete: "deleted", null: "emptied", overwrite: "overwritten" } as const;
const EXAMPLES_SHOWN = 5;

function countsTable(entities: readonly PlannedEntity[]): string {
  return formatTable(
    ["entity", ...COUNT_HEADINGS, "surplus"],
    entities.map(({ entity, counts }) => [entity, ...countCells(counts), counts.surplus]),
  );
}

function examples(legacyIds: readonly number[], count: number): string {
  const shown = legacyIds.slice(0, EXAMPLES_SHOWN).join(", ");
  return count > EXAMPLES_SHOWN ? `${shown}, ...` : shown;
}

function showFailure({ code, message, remedy }: { code: string; message: string; remedy: string }): string {
  return `\n${code}: ${message}\n  What to do: ${remedy}\n`;
}
