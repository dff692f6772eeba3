import type { Sql } from "postgres";

export type Cell = string | number | boolean | null;

const CHUNK_CHARACTERS = 65_536;

/** Loads rows by COPY, a chunk at a time. @returns how many. */
export async function copyRows(
  sql: Sql,
  table: string,
  columns: readonly string[],
  rows: Iterable<readonly Cell[]>,
): Promise<number> {
  const list = columns.map((column) => `"${column}"`).join(", ");
  const stream = await sql.unsafe(`copy public.${table} (${list}) from stdin`).writable();
  let chunk = "";
  let count = 0;
  for (const row of rows) {
    chunk += `${row.map(escape).join("\t")}\n`;
    count += 1;
    if (chunk.length >= CHUNK_CHARACTERS) {
      if (!stream.write(chunk)) await new Promise((drained) => stream.once("drain", drained));
      chunk = "";
    }
  }
  await new Promise<void>((done, failed) => {
    stream.once("finish", done);
    stream.once("error", failed);
    stream.end(chunk);
  });
  return count;
}

function escape(cell: Cell): string {
  if (cell === null) return "\\N";
  if (typeof cell === "string") return /[\\\t\n\r]/.test(cell) ? cell.replace(/[\\\t\n\r]/g, (c) => ESCAPES[c] ?? c) : cell;
  return typeof cell === "boolean" ? (cell ? "t" : "f") : String(cell);
}

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };
