import type { PendingKey } from "../../target/pending-keys.ts";
import type { Sql } from "../../db/connect.ts";
import { query, queryOne } from "../../db/query.ts";
import type { Entity } from "../../entity/define-entity.ts";
import { IsthmusError } from "../../errors.ts";
import { landedKeys } from "../../target/mappings.ts";
import { pendingKeys } from "../../target/pending-keys.ts";
import { knownOf } from "../../target/digests.ts";
import { parseSelection, selectedKeys } from "../../source/selected-keys.ts";
import { assertEachOnce } from "../../source/each-once.ts";
import type { Claim, ClaimOf, RecordCapture } from "../../target/claims.ts";
import type { KeyRange } from "../../sql/key-range.ts";
import { whereSql } from "../../source/projection.ts";
import { allKeys, modifiedKeys, sentOrLandedKeys, type KeyQuery } from "../../source/keys.ts";
import { changedRecords, scanPage, type Pace, type WrittenRecord } from "../../source/scan.ts";
import { inAllSpans } from "../../source/uncomputable.ts";
import { unread } from "./unread.ts";
import { walkKeys, type FoundKeys } from "./walk-keys.ts";

/** The keys of a page, ascending. */
export interface DetectedKeys {
  readonly ids: readonly string[];
  /** Where the next page begins; null: where this one began. */
  readonly cursor: string | null;
  /** modified capture: the time stamp that goes with the cursor. */
  readonly cursorAt?: string | null;
  /** Scans by place: the file of the table that the cursor is a place in. */
  readonly tableFile?: string | null;
  /** No key of the chain lies beyond these. */
  readonly done: boolean;
  /** full capture: rows of the key range that the predicate waives, besides those among the keys. */
  readonly waived: number;
  /** keys capture: the requests these ids answer. */
  readonly pending: readonly PendingKey[];
}

/**
 * Finds the keys of the next page of a chain, as its capture says. State is read later, under the page's locks.
 * @throws IsthmusError KEY_BROKEN
 */
export async function detect(
  source: Sql,
  target: Sql,
  entity: Entity,
  claim: ClaimOf<RecordCapture>,
  pace: Omit<Pace, "rows">,
): Promise<DetectedKeys> {
  const { capture, range_from: from, cursor: after, range_to: upTo, page_size: limit } = claim.chain;
  const keys = await FINDS[capture]({ source, target, entity, claim, range: { from, after, upTo, limit }, pace });
  assertEachOnce(entity, keys.ids);
  return keys;
}

type Find = (look: Look) => Promise<DetectedKeys>;

/** Where keys are looked for, and what the next ones are. */
interface Look {
  readonly source: Sql;
  readonly target: Sql;
  readonly entity: Entity;
  readonly claim: Claim;
  readonly range: KeyRange;
  readonly pace: Omit<Pace, "rows">;
}

const FINDS: Readonly<Record<RecordCapture, Find>> = {
  full: walkedThrough,
  xmin: written,
  keys: askedFor,
  modified,
  selection: selected,
};

function walkedThrough({ source, target, entity, claim, range, pace }: Look): Promise<DetectedKeys> {
  // Where every row is a record, a page's rows are as many as its keys.
  return whereSql(entity) === "true"
    ? ofSource(source, allKeys(entity, range), range.limit)
    : chosen(source, target, entity, claim, range, pace);
}

async function written({ source, target, entity, claim, pace }: Look): Promise<DetectedKeys> {
  const { chain, execution } = claim;
  const place = { cursor: chain.cursor, file: chain.table_file };
  const scanned = await scanPage<WrittenRecord>(
    source,
    changedRecords(entity, chain.changed_from ?? execution.horizon, chain.seen_before),
    place,
    { ...pace, rows: chain.page_size },
    (rows) => unread(source, target, entity, knownOf(claim), rows),
  );
  const { cursor, file: tableFile, done } = scanned;
  return { ids: scanned.rows.map((row) => row.id), cursor, tableFile, done, waived: 0, pending: [] };
}

async function askedFor({ target, claim: { chain, execution }, range: { after, limit } }: Look): Promise<DetectedKeys> {
  const dryRun = execution.dry_run ? execution.id : null;
  const keys = await pendingKeys(target, dryRun, chain.entity_id ?? 0, after, limit, chain.up_to);
  const page = keys.filter((key) => !key.beside);
  // Deletes run downwards; locks are taken upwards all the same.
  const ids = keys.map((key) => key.k).sort(ascending);
  const pending = keys.map(({ k, g, r }) => ({ k, g, r }));
  return { ...pageOf(ids, limit, { pending, cursor: page.at(-1)?.k ?? null }), done: page.length < limit };
}

async function selected({ source, entity, claim, range, pace }: Look): Promise<DetectedKeys> {
  const selection = parseSelection(claim.chain.selection);
  const walked = await walkKeys(source, entity, range, pace, (window) => keysOf(source, selectedKeys(entity, window, selection)));
  return { ...walked, pending: [] };
}

/** In the order of the stamps, as far as the watermark goes; its keys ascend for the locks. */
async function modified({ source, entity, claim: { chain } }: Look): Promise<DetectedKeys> {
  const after = { at: chain.cursor_at ?? "-infinity", id: chain.cursor };
  const { results } = await inAllSpans(source, entity, (span) => {
    const keys = modifiedKeys(entity, stampOf(entity), after, chain.until_at ?? "-infinity", chain.page_size, span);
    return query<{ id: string; at: string; epoch: string }>(source, "source", keys.text, keys.parameters, keys);
  });
  const rows = results
    .flat()
    .sort((a, b) => Number(a.epoch) - Number(b.epoch) || ascending(a.id, b.id))
    .slice(0, chain.page_size);
  const last = rows.at(-1);
  const ids = rows.map(({ id }) => id).sort(ascending);
  return { ...pageOf(ids, chain.page_size), cursor: last?.id ?? null, cursorAt: last?.at ?? null };
}

function ascending(a: string, b: string): number {
  const difference = BigInt(a) - BigInt(b);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

function stampOf({ name, source: { modified } }: Entity): string {
  if (modified !== undefined) return modified;
  throw new IsthmusError("DEPLOYMENT_BEHIND", `This deployment knows no column by which modified rows of ${name} are found.`);
}

async function ofSource(source: Sql, keys: KeyQuery, limit: number): Promise<DetectedKeys> {
  return pageOf((await keysOf(source, keys)).ids, limit);
}

async function keysOf(source: Sql, asked: KeyQuery): Promise<FoundKeys> {
  const rows = await query<{ id: string }>(source, "source", asked.text, asked.parameters, asked);
  return { ids: rows.map(({ id }) => id), waived: 0 };
}

/** Records that the entity's condition lets in; where it is a predicate, also those that have landed, and how many it waives. */
async function chosen(
  source: Sql,
  target: Sql,
  entity: Entity,
  claim: Claim,
  range: KeyRange,
  pace: Omit<Pace, "rows">,
): Promise<DetectedKeys> {
  const walked = await walkKeys(source, entity, range, pace, async (window) => {
    if (entity.source.predicate === undefined) return keysOf(source, allKeys(entity, window));
    const keys = sentOrLandedKeys(entity, window, await landedKeys(target, claim.source.id, entity.name, window));
    return queryOne<{ ids: string[]; waived: number }>(source, "source", keys.text, keys.parameters);
  });
  return { ...walked, pending: [] };
}

/** A page of ascending keys: the last one is the cursor, and fewer than asked for are the last page. */
function pageOf(ids: readonly string[], limit: number, more: Partial<DetectedKeys> = {}): DetectedKeys {
  return { ids, cursor: ids.at(-1) ?? null, done: ids.length < limit, waived: 0, pending: [], ...more };
}
