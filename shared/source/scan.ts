// Scans for changed rows: a table is walked through by place, in windows, and each page of a chain goes on where the
// last one ended.
import type { Clock } from "../clock.ts";
import type { Queryable } from "../db/connect.ts";
import { ident, regclass } from "../db/ident.ts";
import { isSourceLimit, query, queryOne } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import { keysBehind } from "../sql/key-range.ts";
import type { KeyQuery } from "./keys.ts";
import { scannedParameter, scannedSql } from "../sql/xid.ts";

/** Rows written in [from, to). */
export interface Written {
  readonly from: string;
  readonly to: string;
}

export interface Scan {
  readonly table: string;
  readonly key: string;
  /** What a row `w` tells besides its key: SQL by name. */
  readonly values: Readonly<Record<string, string>>;
  /** Looks for rows written by this transaction or a later one. */
  readonly from: string;
}

/** Where a scan stands. */
export interface Place {
  /** A key, or a row's place in the file (block * 2^16 + line). Everything up to it has been looked at; null: nothing. */
  readonly cursor: string | null;
  /** The file that the cursor is a place in, or KEYS; null: a scan that has not begun. */
  readonly file: string | null;
}

export interface Pace {
  /** How many rows a page takes at most. */
  readonly rows: number;
  /** After this time a page ends with what it has. */
  readonly budgetMs: number;
  readonly clock: Clock;
}

export interface Scanned<Row> extends Place {
  /** Ascending by key, each key once. */
  readonly rows: readonly Row[];
  /** The end of the table, as it stands now, was reached. */
  readonly done: boolean;
}

/** A record whose own row was written since a horizon. */
export interface WrittenRecord {
  readonly id: string;
  /** It was written before the last run looked, which may have read it. */
  readonly seen?: boolean;
}

/**
 * The records of an entity whose own row was written since a horizon. `seenBefore`: the first transaction id that was
 * not assigned when the last run looked. Gives WrittenRecord.
 */
export function changedRecords(entity: Entity, from: string, seenBefore: string | null = null): Scan {
  const mayBeSeen = seenBefore !== null && BigInt(seenBefore) > BigInt(from);
  // Ages, for the reason that scannedSql gives.
  const values: Readonly<Record<string, string>> = mayBeSeen
    ? { seen: `age(w.xmin) > (select age('${scannedParameter(seenBefore)}'::xid))` }
    : {};
  return { table: entity.source.table, key: entity.source.key, values, from };
}

/**
 * One page of a scan: windows, one statement each, until the page is full, its time is used up or the table ends.
 *
 * Rows that move while a scan is under way are not lost. One that is updated behind the scan was written by a
 * transaction that had not ended when the execution began, hence at or after its horizon: the next execution finds
 * it. A table that is rewritten (VACUUM FULL, CLUSTER, TRUNCATE, ALTER TABLE, pg_repack) gets another file, and the
 * scan begins anew in that. Each window tells its file in the statement that reads it: the lock that the statement
 * has on the table from its first moment on keeps every rewrite out, so what was read is of that file.
 */
export async function scanPage<Row extends { readonly id: string }>(
  source: Queryable,
  scan: Scan,
  from: Place,
  pace: Pace,
  /** Which of a window's rows count. */
  choose: (rows: readonly Row[]) => Promise<readonly Row[]> = (rows) => Promise.resolve(rows),
): Promise<Scanned<Row>> {
  const way = await chooseWay(source, scan.table);
  const found = new Map<string, Row>();
  const begun = pace.clock();
  // What the other way left is no place for this one.
  let cursor = from.file !== null && (from.file === KEYS) === (way === "keys") ? from.cursor : null;
  let { file } = from;
  let size = FIRST_WINDOW[way];
  let grows = true;
  for (;;) {
    const room = pace.rows - found.size;
    const windowBegun = pace.clock();
    const window = await askWindow<Row>(source, windowQuery(scan, way, cursor, size, room), size);
    if (window === undefined) {
      size = smallerWindow(size);
      grows = false;
      continue;
    }
    if (cursor !== null && window.file !== file) {
      cursor = null;
      continue;
    }
    file = window.file;
    for (const row of await choose(window.rows.map(({ place: _, ...values }) => values as unknown as Row)))
      found.set(row.id, row);
    const full = window.rows.length === room;
    const last = window.rows.at(-1)?.place;
    cursor = full && last !== undefined ? placeToCursor(last) : (window.last ?? cursor);
    const now = pace.clock();
    const done = !full && window.ends;
    if (done || found.size >= pace.rows || now - begun >= pace.budgetMs) return { rows: ascending(found), cursor, file, done };
    if (grows) size = nextWindow(size, now - windowBegun, pace.budgetMs);
  }
}

/** Undefined: a limit of the source ended the window, and it can be smaller. */
async function askWindow<Row>(source: Queryable, asked: KeyQuery, size: number): Promise<Window<Row> | undefined> {
  try {
    return await queryOne<Window<Row>>(source, "source", asked.text, asked.parameters, asked);
  } catch (error) {
    if (size > 1 && isSourceLimit(error)) return undefined;
    throw error;
  }
}

/** A window that a limit ended is tried again with a quarter: each try costs that limit, and the page's later windows stay so small. */
export function smallerWindow(size: number): number {
  return Math.ceil(size / 4);
}

/** Windows double while they are quick, so that a page that has its time takes half as much again at the most. */
export function nextWindow(size: number, tookMs: number, budgetMs: number): number {
  return tookMs * 4 < budgetMs ? size * 2 : size;
}

/**
 * `file`: by place in the table's file, where a range of places is read by itself (PostgreSQL 14) and the table has
 * one file that the role may know the places of. `keys`: by the index of the key.
 */
export type Way = "file" | "keys";

/** What a scan by keys has for a file. */
const KEYS = "0";

/** Blocks, and keys. */
const FIRST_WINDOW: Readonly<Record<Way, number>> = { file: 1_024, keys: 10_000 };

interface Window<Row> {
  readonly file: string;
  /** In the order of the walk, no more than there was room for. */
  readonly rows: readonly (Row & { readonly place: string })[];
  /** The cursor behind the window; null: it is empty. */
  readonly last: string | null;
  /** Nothing of the table lies beyond the window. */
  readonly ends: boolean;
}

async function chooseWay(source: Queryable, table: string): Promise<Way> {
  const [row] = await query<{ file: boolean }>(
    source,
    "source",
    `select relkind = 'r' and not relhassubclass and current_setting('server_version_num')::integer >= 140000
            and has_column_privilege(oid, 'ctid', 'select') as file
       from pg_class where oid = ${regclass(table)}`,
  );
  return row?.file === true ? "file" : "keys";
}

/** One window behind a cursor: its changed rows, as many as there is room for, and where it ends. Gives Window. */
export function windowQuery(scan: Scan, way: Way, cursor: string | null, size: number, room: number): KeyQuery {
  return way === "file" ? fileWindow(scan, cursor, size, room) : keyWindow(scan, cursor, size, room);
}

/** The table comes first: it is locked when its file is looked up. */
function fileWindow(scan: Scan, cursor: string | null, size: number, room: number): KeyQuery {
  const table = `public.${ident(scan.table)}`;
  const after = cursor === null ? 0n : BigInt(cursor);
  const end = (cursor === null ? -1n : after >> LINE_BITS) + BigInt(size);
  const lastBlock = end > LAST_BLOCK ? LAST_BLOCK : end;
  return {
    text: `select f.file, changed.rows, $2::text as last, f.blocks <= $3::text::bigint as ends
             from (select coalesce(pg_catalog.json_agg(r), '[]') as rows from (
                     select w.ctid::text as place, ${valuesSql(scan)}
                       from ${table} w
                      where w.ctid > $4::text::tid and w.ctid <= $5::text::tid and ${scannedSql("w.xmin", 6)}
                      order by w.ctid limit $1) r) changed,
                  (select pg_relation_filenode(${regclass(scan.table)})::text as file,
                          pg_relation_size(${regclass(scan.table)}) / current_setting('block_size')::bigint as blocks) f`,
    parameters: [
      room,
      ((lastBlock << LINE_BITS) + LAST_LINE).toString(),
      (lastBlock + 1n).toString(),
      `(${after >> LINE_BITS},${after & LAST_LINE})`,
      `(${lastBlock},${LAST_LINE})`,
      scannedParameter(scan.from),
    ],
  };
}

/** The index alone finds where the window ends. */
function keyWindow(scan: Scan, cursor: string | null, size: number, room: number): KeyQuery {
  const table = `public.${ident(scan.table)}`;
  const key = `w.${ident(scan.key)}`;
  const behind = keysBehind(key, "$2::text::bigint");
  return {
    text: `with span as materialized (
             select max(id) as last, count(*) < $3 as ends from (
               select ${key} as id from ${table} w where ${behind} order by ${key} limit $3) k)
           select '${KEYS}' as file, s.last::text as last, s.ends, changed.rows
             from span s, (select coalesce(pg_catalog.json_agg(r), '[]') as rows from (
                     select ${key}::text as place, ${valuesSql(scan)}
                       from ${table} w
                      where ${behind} and ${key} <= (select last from span) and ${scannedSql("w.xmin", 4)}
                      order by ${key} limit $1) r) changed`,
    parameters: [room, cursor, size, scannedParameter(scan.from)],
    inKeyOrder: true,
  };
}

const LINE_BITS = 16n;
const LAST_LINE = 65_535n;
const LAST_BLOCK = 4_294_967_294n;

function valuesSql({ key, values }: Scan): string {
  return [`w.${ident(key)}::text as id`, ...Object.entries(values).map(([name, sql]) => `${sql} as ${ident(name)}`)].join(", ");
}

/** `(block,line)`, or a key. */
function placeToCursor(place: string): string {
  const [, block, line] = /^\((\d+),(\d+)\)$/.exec(place) ?? [];
  return block === undefined || line === undefined ? place : ((BigInt(block) << LINE_BITS) + BigInt(line)).toString();
}

/** Locks of records are taken in this order. */
function ascending<Row extends { readonly id: string }>(found: ReadonlyMap<string, Row>): Row[] {
  const keyed = [...found.values()].map((row) => [BigInt(row.id), row] as const);
  return keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, row]) => row);
}
