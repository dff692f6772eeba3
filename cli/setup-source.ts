import { installation } from "../functions/installation.gen.ts";
import { sourceRoleSql } from "../shared/operate/source-setup.ts";
import type { Inspection } from "./answers.ts";
import { toProblem } from "./problem.ts";

const HEADER = `-- For the source, run by the owner of its tables who may also create roles:
--   npm run --silent sync -- setup-source > setup-source.sql
--   psql "<the source, as its owner>" -v ON_ERROR_STOP=1 -v reader_password=... -f setup-source.sql
-- The role reads exactly the columns that the entity files name. xmin and ctid, by which written rows are found, are
-- system columns: rights on other columns do not include them, only rights on the whole table would. So they are
-- granted by name. May nothing be created on the source? Any role that can read these columns serves, on a replica
-- too: the captures xmin, full and digest need no index, trigger, extension, function or replication right. Then
-- leave all of this out.
`;

/** SQL that prepares a source. What indexes would help is known only once the functions can read it: without them it says so. */
export async function setupSource(role: string, inspect: () => Promise<Inspection>): Promise<string> {
  const found = await inspect().catch((error: unknown) => toProblem(error).code);
  const known = typeof found === "string" ? [] : found.tables;
  const views = new Set(known.filter(({ kind }) => kind === "v").map(({ table }) => table));
  return [
    HEADER,
    sourceRoleSql(installation.entities, role, views),
    "\n",
    typeof found === "string" ? notAsked(found) : indexes(found),
  ].join("");
}

function notAsked(code: string): string {
  return `-- Indexes: not known, since the functions could not be asked (${code}). Once they read the source with this role,
-- print this again: it then lists those that are missing.
`;
}

function indexes({ improvements }: Inspection): string {
  if (improvements.length === 0) return "-- Indexes: none is missing.\n";
  const lines = improvements.map(({ sql, reason }) => `-- ${reason}\n${sql}\n`);
  return `-- Optional indexes. Each is built while the application goes on writing, except where a table is partitioned.\n${lines.join("")}`;
}
