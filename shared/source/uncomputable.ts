import type { Queryable } from "../db/connect.ts";
import { isSourceLimit, queryOne } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import type { Span } from "../sql/spans.ts";
import { HIGHEST, LOWEST } from "../sql/key-range.ts";
import { drivingSql, keySql } from "./projection.ts";
import { stateOfRecord } from "./read-records.ts";

export interface InSpans<Result> {
  /** One of each span that went through, ascending. */
  readonly results: readonly Result[];
  /** Keys of records that the source cannot compute, or not in its time; none of the results knows of them. */
  readonly refused: readonly string[];
  /** Everything up to here was asked for: the end of the span, unless so many are refused that it had to stop. */
  readonly end: bigint;
}

/** Records that one statement over a range singles out. Each costs some twenty statements that fail. */
const MOST_REFUSED = 25;

/**
 * Runs a statement over a range of keys. When the source cannot compute it because of a record's data, or a time
 * limit ends it, halves of the range are asked instead, down to the guilty records.
 * @throws IsthmusError when something else is wrong, or a time limit ends the statement over a single key that is not
 * `mayBeSlow`.
 */
export async function inSpans<Result>(
  source: Queryable,
  entity: Entity,
  whole: Span,
  run: (span: Span) => Promise<Result>,
  { mayBeSlow = false }: { readonly mayBeSlow?: boolean } = {},
): Promise<InSpans<Result>> {
  const results: Result[] = [];
  const refused: string[] = [];
  // Spans yet to be asked, the lowest on top.
  const spans: Span[] = [whole];
  for (let span = spans.pop(); span; span = spans.pop()) {
    if (refused.length >= MOST_REFUSED) return { results, refused, end: span.from - 1n };
    try {
      results.push(await run(span));
    } catch (error) {
      const ofRecord = stateOfRecord(error) !== undefined;
      if (!ofRecord && !isSourceLimit(error)) throw error;
      const { first, last } = await keysOf(source, entity, span);
      // Whatever ended the statement, no record is there.
      if (first === null || last === null) continue;
      if (first === last) {
        if (!ofRecord && !mayBeSlow) throw error;
        refused.push(first);
        continue;
      }
      const middle = BigInt(first) + (BigInt(last) - BigInt(first)) / 2n;
      spans.push({ from: middle + 1n, to: span.to }, { from: span.from, to: middle });
    }
  }
  return { results, refused, end: whole.to };
}

/**
 * Runs a statement over all records: without a range at first (undefined), so that the planner does as it likes, and
 * then like inSpans.
 * @throws IsthmusError also when there are so many records that the source cannot compute that some were not asked
 * for.
 */
export async function inAllSpans<Result>(
  source: Queryable,
  entity: Entity,
  run: (span: Span | undefined) => Promise<Result>,
): Promise<Pick<InSpans<Result>, "results" | "refused">> {
  const all: Span = { from: LOWEST, to: HIGHEST };
  const { results, refused, end } = await inSpans(source, entity, all, (span) => run(span === all ? undefined : span));
  if (end === HIGHEST) return { results, refused };
  throw new IsthmusError("SOURCE_REFUSED", `The source cannot compute more than ${refused.length} records of ${entity.name}.`, {
    detail: { entity: entity.name, legacy_ids: refused, hint: "See the rules source_… in sync_conflicts; read the entity again with capture full." }, // prettier-ignore
  });
}

/** The lowest and the highest key of the driving table in a span: one probe each of its index, whatever the planner knows of the table. */
async function keysOf(source: Queryable, entity: Entity, { from, to }: Span) {
  const key = keySql(entity);
  const end = (order: string) =>
    `(select ${key}::text from ${drivingSql(entity)} where ${key} between $1::text::bigint and $2::text::bigint order by ${key} ${order} limit 1)`;
  return queryOne<{ first: string | null; last: string | null }>(
    source,
    "source",
    `select ${end("asc")} as first, ${end("desc")} as last`,
    [String(from), String(to)],
    { inKeyOrder: true },
  );
}
