import type { Sql } from "../../db/connect.ts";
import { query, queryOne } from "../../db/query.ts";
import type { Entity } from "../../entities/define-entity.ts";
import { IsthmusError } from "../../errors.ts";
import { landedKeys } from "../../sql/mappings.ts";
import { pendingKeys } from "../../sql/pending-keys.ts";
import { plannedKeys } from "../../sql/planned-records.ts";
import { parseSelection, selectedKeys } from "../../sql/selected-keys.ts";
import { assertEachOnce } from "../../sql/each-once.ts";
import type { Claim, DetectedKeys } from "../types.ts";
import type { KeyRange } from "../../sql/key-range.ts";
import { allKeys, modifiedKeys, sentOrLandedKeys } from "../../sql/source-keys.ts";
import { changedRecords, scanPage, type Pace, type WrittenRecord } from "../../sql/source-scan.ts";
import { unread } from "./unread.ts";

/**
 * Finds the keys of the next page of a chain, as its capture says. State is read later, under the page's locks.
 * @throws IsthmusError KEY_BROKEN
 */
export async function detect(...args: Parameters<typeof find>): Promise<DetectedKeys> {
  const keys = await find(...args);
  assertEachOnce(args[2], keys.ids);
  return keys;
}

async function find(source: Sql, target: Sql, entity: Entity, claim: Claim, pace: Omit<Pace, "rows">): Promise<DetectedKeys> {
  const { chain, execution } = claim;
  const limit = chain.page_size;
  const range = { from: chain.range_from, after: chain.cursor, upTo: chain.range_to, limit };
  switch (chain.capture) {
    case "full":
      return entity.source.predicate === undefined
        ? ofSource(source, allKeys(entity, range), limit)
        : sentOrLanded(source, target, entity, claim, range);
    case "xmin": {
      const place = { cursor: chain.cursor, file: chain.table_file };
      const scanned = await scanPage<WrittenRecord>(
        source,
        changedRecords(entity, chain.changed_from ?? execution.horizon, chain.seen_before),
        place,
        { ...pace, rows: limit },
        (rows) => unread(source, target, entity, chain.entity_id ?? 0, rows),
      );
      const { cursor, file: tableFile, done } = scanned;
      return { ids: scanned.rows.map((row) => row.id), cursor, tableFile, done, waived: 0, pending: [] };
    }
    case "keys": {
      const keys = await (execution.dry_run
        ? plannedKeys(target, execution.id, chain.entity_id ?? 0, range.after, limit, chain.up_to)
        : pendingKeys(target, chain.entity_id ?? 0, range.after, limit, chain.up_to));
      const page = keys.filter((key) => !key.beside);
      // Deletes run downwards; locks are taken upwards all the same.
      const ids = keys.map((key) => key.k).sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1));
      const pending = keys.map(({ k, g, r }) => ({ k, g, r }));
      return { ...pageOf(ids, limit, { pending, cursor: page.at(-1)?.k ?? null }), done: page.length < limit };
    }
    case "modified":
      return modified(source, entity, claim);
    case "selection":
      return ofSource(source, selectedKeys(entity, range, parseSelection(chain.selection)), limit);
    case "digest":
    case "joins":
    case "adopt":
    case "validate":
      return pageOf([], 1);
  }
}

/** In the order of the stamps, as far as the watermark goes; its keys ascend for the locks. */
async function modified(source: Sql, entity: Entity, { chain }: Claim): Promise<DetectedKeys> {
  const after = { at: chain.cursor_at ?? "-infinity", id: chain.cursor };
  const keys = modifiedKeys(entity, stampOf(entity), after, chain.until_at ?? "-infinity", chain.page_size);
  const rows = await query<{ id: string; at: string }>(source, "source", keys.text, keys.parameters);
  const last = rows.at(-1);
  const ascending = rows.map(({ id }) => id).sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1));
  return { ...pageOf(ascending, chain.page_size), cursor: last?.id ?? null, cursorAt: last?.at ?? null };
}

function stampOf({ name, source: { modified } }: Entity): string {
  if (modified !== undefined) return modified;
  throw new IsthmusError("DEPLOYMENT_BEHIND", `This deployment knows no column by which modified rows of ${name} are found.`);
}

async function ofSource(source: Sql, keys: ReturnType<typeof allKeys>, limit: number): Promise<DetectedKeys> {
  const rows = await query<{ id: string }>(source, "source", keys.text, keys.parameters);
  return pageOf(
    rows.map((row) => row.id),
    limit,
  );
}

async function sentOrLanded(source: Sql, target: Sql, entity: Entity, claim: Claim, range: KeyRange): Promise<DetectedKeys> {
  const keys = sentOrLandedKeys(entity, range, await landedKeys(target, claim.source.id, entity.name, range));
  const { ids, waived } = await queryOne<{ ids: string[]; waived: number }>(source, "source", keys.text, keys.parameters);
  return pageOf(ids, range.limit, { waived });
}

/** A page of ascending keys: the last one is the cursor, and fewer than asked for are the last page. */
function pageOf(ids: readonly string[], limit: number, more: Partial<DetectedKeys> = {}): DetectedKeys {
  return { ids, cursor: ids.at(-1) ?? null, done: ids.length < limit, waived: 0, pending: [], ...more };
}
