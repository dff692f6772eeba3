import { consumedJoins, type ConsumedJoin, type JoinRow } from "../entity/consumed-joins.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { Sql } from "../db/connect.ts";
import { query } from "../db/query.ts";
import { IsthmusError } from "../errors.ts";
import { commitJoinPage, differingLinks } from "../target/join-rows.ts";
import { dependantKeys, dependantRange, joinRows, writtenJoinRows } from "../source/joins.ts";
import type { KeyQuery } from "../source/keys.ts";
import { scanPage, type Scanned, type Written } from "../source/scan.ts";
import { inAllSpans } from "../source/uncomputable.ts";
import { nextWindowSize } from "./page-size.ts";
import type { Claim } from "../target/claims.ts";
import type { Context } from "../context.ts";
import type { PageMessage } from "../target/sending.ts";

/**
 * A page of a joins chain: rows of a table that an entity reads beside its own. On a full pass it notes what the
 * entity consumes of each, before the entity's records are read. After that it looks at changed rows only, and has
 * the records of those read again of which something consumed differs. What was noted and what is asked for commit
 * together. A dry run asks for them in its plan, and notes nothing.
 */
export async function fanOut(context: Context, claim: Claim, entity: Entity): Promise<FannedOut> {
  const { config, target, clock, meter } = context;
  const { chain } = claim;
  const started = clock();
  const join = consumedJoins(entity).find(({ id }) => id === chain.join_id);
  const written = chain.changed_from === null ? undefined : { from: chain.changed_from, to: claim.execution.snapshot_xmax };
  // A join that this deployment does not have: the page is of another definition, after which all is read again.
  const { rows, cursor, file, done } = join ? await rowsOf(context, claim, join, written) : NO_ROWS;
  const { keys, range } = join && written ? await dependants(context, claim, entity, join, rows, written) : NONE;

  const dispatch = await commitJoinPage(target, claim, rows, keys, {
    range,
    cursor,
    table_file: file,
    done,
    heap_bytes: meter.heapBytes(),
    wall_ms: clock() - started,
    next_page_size: nextWindowSize({ current: chain.page_size, maximum: config.ISTHMUS_JOIN_ROWS, slow: chain.slow_growth }),
    lease_seconds: config.ISTHMUS_LEASE_SECONDS,
    definition_hash: context.hashes.get(entity.name) ?? "",
  });
  return { asked: range ? "range" : keys.length, dispatch };
}

interface FannedOut {
  /** How many records are to be read again. */
  readonly asked: number | "range";
  readonly dispatch: readonly PageMessage[];
}

interface Dependants {
  readonly keys: readonly string[];
  readonly range: { readonly lowest: string; readonly highest: string } | null;
}
const NONE: Dependants = { keys: [], range: null };

const NO_ROWS: Scanned<JoinRow> = { rows: [], cursor: null, file: null, done: true };

/** All rows of the joined table, by key; or those that were written in the span, by place. */
async function rowsOf(
  { config, source, clock }: Context,
  { chain }: Claim,
  join: ConsumedJoin,
  written: Written | undefined,
): Promise<Scanned<JoinRow>> {
  if (written) {
    const pace = { rows: chain.page_size, budgetMs: config.ISTHMUS_SCAN_SECONDS * 1_000, clock };
    return scanPage(source, writtenJoinRows(join, written.from), { cursor: chain.cursor, file: chain.table_file }, pace);
  }
  const rows = await ask<JoinRow>(source, joinRows(join, chain.cursor, chain.page_size));
  const repeated = rows.find((row, index) => row.id === rows[index - 1]?.id);
  if (repeated) {
    throw new IsthmusError("KEY_BROKEN", `Several rows of ${join.table} have the same ${join.key}, which should identify one.`, {
      detail: { table: join.table, column: join.key, legacy_ids: [repeated.id] },
    });
  }
  return { rows, cursor: rows.at(-1)?.id ?? null, file: null, done: rows.length < chain.page_size };
}

/** The records to read again: listed, or as one range when the execution has too many of them. */
async function dependants(
  { config, source, target }: Context,
  claim: Claim,
  entity: Entity,
  join: ConsumedJoin,
  rows: readonly JoinRow[],
  written: Written,
): Promise<Dependants> {
  if (rows.length === 0) return NONE;
  const { links, listed } = await differingLinks(target, claim, join, rows);
  if (links.length === 0) return NONE;
  const room = Math.max(0, config.ISTHMUS_FANOUT_KEYS - listed);
  // One row may have a million: no more are fetched than it takes to know that they are too many.
  const { results, refused } = await inAllSpans(source, entity, (span) =>
    ask<{ id: string }>(source, dependantKeys(entity, join, links, written, room + 1, span)),
  );
  // Of a record whose reference the source cannot compute nobody knows: the read says what is wrong with it.
  const found = [...results.flat().map(({ id }) => id), ...refused];
  if (found.length <= room) return { keys: found, range: null };
  const ends = await inAllSpans(source, entity, (span) =>
    ask<{ lowest: string | null; highest: string | null }>(source, dependantRange(entity, join, links, written, span)),
  );
  const keys = ends.results
    .flat()
    .flatMap(({ lowest, highest }) => (lowest === null || highest === null ? [] : [lowest, highest]))
    .concat(ends.refused);
  keys.sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1));
  const [lowest, highest] = [keys[0], keys.at(-1)];
  return { keys: [], range: lowest === undefined || highest === undefined ? null : { lowest, highest } };
}

function ask<Row extends object>(source: Sql, asked: KeyQuery): Promise<Row[]> {
  return query<Row>(source, "source", asked.text, asked.parameters, asked);
}
