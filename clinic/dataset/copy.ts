import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type postgres from "postgres";
import type { Cell, TableRows } from "./table.ts";

const CHUNK_CHARACTERS = 65_536;

/** Loads a table by COPY; rows are made as fast as the server takes them. @returns how many. */
export async function copyTable(sql: postgres.ISql, { table, columns, rows }: TableRows): Promise<number> {
  let count = 0;
  const counted = function* () {
    for (const row of rows) {
      count += 1;
      yield row;
    }
  };
  const list = columns.map((column) => `"${column}"`).join(", ");
  const stream = await sql.unsafe(`copy public.${table} (${list}) from stdin`).writable();
  // A mark of 1: the next chunk is made when the server has taken the one before.
  await pipeline(Readable.from(copyText(counted()), { objectMode: true, highWaterMark: 1 }), stream);
  return count;
}

/** Rows in COPY's text format, in chunks of about 64 KB. */
export function* copyText(rows: Iterable<readonly Cell[]>): Generator<string> {
  let chunk = "";
  for (const row of rows) {
    for (let index = 0; index < row.length; index++) chunk += (index > 0 ? "\t" : "") + escape(row[index] ?? null);
    chunk += "\n";
    if (chunk.length >= CHUNK_CHARACTERS) {
      yield chunk;
      chunk = "";
    }
  }
  if (chunk !== "") yield chunk;
}

const SPECIAL = /[\\\t\n\r]/;
const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };

function escape(cell: Cell): string {
  if (cell === null) return "\\N";
  if (typeof cell === "string")
    return SPECIAL.test(cell) ? cell.replace(/[\\\t\n\r]/g, (character) => ESCAPES[character] ?? "") : cell;
  return typeof cell === "boolean" ? (cell ? "t" : "f") : String(cell);
}
