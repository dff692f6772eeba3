import type { Sql } from "postgres";
import { answering, answersOf, idleAnswers } from "./answers.ts";
import { columnFindings, generatedFindings, tableIn, type Shapes } from "./catalog.ts";
import { catalogue } from "./catalogue.ts";
import { communication } from "./communication.ts";
import { isDifference, isOfValue, type Finding } from "./finding.ts";
import { orders } from "./orders.ts";
import { people } from "./people.ts";
import type { Recomputed } from "./recompute.ts";
import { recordFindings, stateFindings } from "./records.ts";
import { differencesOf, differingBuckets, type Difference } from "./values.ts";

export { pinnedSession } from "./session.ts";

/** The entities of the clinic. */
export const recomputed: readonly Recomputed[] = [...people, ...catalogue, ...orders, ...communication];

export interface Verdict {
  readonly entity: string;
  /** Source records that were compared, and those that are in the queue. */
  readonly compared: number;
  readonly held: number;
  /** Everything that is not as it should be, each with who answers for it. */
  readonly findings: readonly Finding[];
  /** Legacy ids of records in which the sides differ, by nobody's word but a person's who has edited the row, with the columns; `row`: only one side has it. */
  readonly differences: readonly { readonly id: string; readonly columns: readonly string[] }[];
}

/** Records whose values are looked into at most; of more, the first ones say enough. */
const ENOUGH = 100_000;
/** Records that are looked into at once. */
const AT_ONCE = 2_000;

/**
 * Compares an entity's two sides from every one of them: each column of each record in the target's exact type, rows,
 * mappings, row states, tombstones, queue, warnings and the catalog. `before`: the shapes that the catalog is
 * compared with.
 */
export async function verify(source: Sql, target: Sql, definition: Recomputed, before?: Shapes): Promise<Verdict> {
  const table = await tableIn(target, definition);
  const answers = await answersOf(target, definition);
  const queued = [...new Set(answers.queue.map(({ id }) => id))];
  const { records, buckets } = await differingBuckets(source, target, definition, table, queued);
  const states = await stateFindings(target, definition, table);
  const found = new Map<string, Difference>();
  const look = async (which: Parameters<typeof differencesOf>[4]) => {
    for (const one of await differencesOf(source, target, definition, table, which)) found.set(keyOf(one), one);
  };
  for (const bucket of buckets) if (found.size < ENOUGH) await look({ bucket });
  const ids = [...new Set([...queued, ...states.map(({ id }) => id), ...answers.warnings.map(({ id }) => id)])];
  for (let at = 0; at < ids.length; at += AT_ONCE) await look({ ids: ids.slice(at, at + AT_ONCE) });

  const values = [...found.values()];
  const differs = new Set(values.filter(isOfValue).map(({ id, column }) => `${id} ${column ?? ""}`));
  const stale = new Set(values.filter(({ column }) => column === undefined).map(({ id }) => id));
  const sides: (Finding | Difference)[] = [
    ...values,
    ...(await recordFindings(target, definition)),
    // Of a field that differs, the difference has been found.
    ...states.filter(
      ({ kind, id, column }) => !stale.has(id) && (kind === "state_left" || !differs.has(`${id} ${column ?? ""}`)),
    ),
    ...(await generatedFindings(target, definition, table)),
  ];
  const shape = columnFindings(definition, table, before?.get(definition.entity));
  // What DDL has made of a column nobody has edited, though the rows were written anew.
  const changed = new Set(shape.map(({ column }) => column));
  const told = sides.map((finding) => {
    const { kind, id, column } = finding;
    const judged = "edited" in finding && changed.has(column) ? { ...finding, edited: false } : finding;
    const by = answering(definition, table, answers, judged);
    return {
      kind,
      ...(id === undefined ? {} : { id }),
      ...(column === undefined ? {} : { column }),
      ...(by === undefined ? {} : { told: by }),
    };
  });
  const findings = [...shape, ...told, ...idleAnswers(answers, sides)];
  return { entity: definition.entity, compared: records, held: queued.length, findings, differences: differencesIn(findings) };
}

const keyOf = ({ id, kind, column }: Difference) => `${id} ${column ?? kind}`;

/** What the sides do not agree on, by record; where the row of a record that is gone stays by policy, nothing differs. */
function differencesIn(findings: readonly Finding[]): Verdict["differences"] {
  const byId = new Map<string, string[]>();
  for (const finding of findings) {
    const { id, column = "row", told } = finding;
    if (id === undefined || !isDifference(finding) || (told !== undefined && told !== "edit")) continue;
    byId.set(id, [...(byId.get(id) ?? []), column]);
  }
  return [...byId].map(([id, columns]) => ({ id, columns }));
}
