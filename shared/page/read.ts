import type { Clock } from "../clock.ts";
import type { Sql } from "../db/connect.ts";
import { KEY, type Entity, type SourceRow } from "../entity/define-entity.ts";
import { readRecords, refusedColumn, stateOfRecord } from "../source/read-records.ts";
import { SENT } from "../source/projection.ts";
import { assertEachOnce } from "../source/each-once.ts";

export interface Projected {
  readonly rows: readonly SourceRow[];
  /** Keys whose row exists, but does not satisfy the entity's predicate. */
  readonly outside: readonly string[];
  /** Records that the source cannot compute. */
  readonly refused: readonly RefusedRecord[];
  readonly bytes: number;
  /** Not all were read: so many of the keys, from the first, are as much as a page may read. 0: the first alone is too large. */
  readonly fits?: number;
}

export interface RefusedRecord {
  readonly id: string;
  readonly sqlstate: string;
  /** The column of the projection that fails by itself; null: none does. */
  readonly column: string | null;
}

export interface ReadBudget {
  readonly bytes: number;
  /** How long a read may go on looking for records that the source cannot compute. */
  readonly searchMs: number;
  readonly clock: Clock;
}

/** Records that one read singles out. Each costs some twenty statements that fail. */
const MOST_REFUSED = 25;

/**
 * Fetches the current records of the keys through the entity's projection, every column as text (microseconds,
 * infinity and exact decimals survive). A key without a record is simply missing from the answer. When the source
 * cannot compute a statement because of a record's data, halves are read, down to the guilty records.
 * @throws IsthmusError KEY_BROKEN
 */
export async function readProjection(
  source: Sql,
  entity: Entity,
  ids: readonly string[],
  budget: ReadBudget,
): Promise<Projected> {
  const begun = budget.clock();
  const rows: SourceRow[] = [];
  const refused: RefusedRecord[] = [];
  let bytes = 0;
  const read = (fits?: number): Projected => ({
    ...parted(entity, rows),
    refused,
    bytes,
    ...(fits === undefined ? {} : { fits }),
  });
  // Ranges of ids yet to be read, the first one on top.
  const parts: [from: number, to: number][] = ids.length === 0 ? [] : [[0, ids.length]];
  for (let part = parts.pop(); part; part = parts.pop()) {
    const [from, to] = part;
    const searching = to - from < ids.length;
    if (searching && (refused.length >= MOST_REFUSED || (from > 0 && budget.clock() - begun > budget.searchMs)))
      return read(from);
    try {
      const found = await readRecords(source, entity, ids.slice(from, to), budget.bytes - bytes);
      assertEachOnce(
        entity,
        found.rows.map((row) => row[KEY] ?? ""),
      );
      rows.push(...found.rows);
      bytes += found.bytes;
      if (found.beyond !== undefined) return read(ids.indexOf(found.beyond));
    } catch (error) {
      const sqlstate = stateOfRecord(error);
      if (sqlstate === undefined) throw error;
      const [id] = ids.slice(from, to);
      if (to - from === 1 && id !== undefined) {
        refused.push({ id, sqlstate, column: await refusedColumn(source, entity, id, refused.at(-1)?.column ?? null) });
        continue;
      }
      const middle = (from + to) >> 1;
      parts.push([middle, to], [from, middle]);
    }
  }
  return read();
}

function parted(entity: Entity, all: readonly SourceRow[]): Pick<Projected, "rows" | "outside"> {
  if (entity.source.predicate === undefined) return { rows: all, outside: [] };
  return {
    rows: all.filter((row) => row[SENT] === "true"),
    outside: all.filter((row) => row[SENT] !== "true").map((row) => row[KEY] ?? ""),
  };
}
