import { readdirSync } from "node:fs";
import postgres from "postgres";
import { startPostgres } from "./postgres.ts";

// npx tsx local/open-postgres.ts FOLDER: serves a data folder of the demo or of a failed test until Ctrl-C.
const [folder] = process.argv.slice(2);
if (folder === undefined || !exists(folder)) {
  console.error("Which server's folder? For example: npx tsx local/open-postgres.ts .local/demo/target");
  process.exit(2);
}
const pg = await startPostgres({ name: folder, dataDir: folder });
const sql = postgres(pg.superuserUrl(), { max: 1 });
const databases = await sql<{ datname: string }[]>`
  select datname from pg_database where not datistemplate and datname <> 'postgres' order by 1`;
await sql.end();
for (const { datname } of databases) console.log(pg.superuserUrl(datname));
console.log("Ctrl-C stops the server; the data stays.");
process.once("SIGINT", () => void pg.stop().then(() => process.exit(0)));

/** A server that has not been created would be an empty one. */
function exists(path: string): boolean {
  try {
    return readdirSync(path).length > 0;
  } catch {
    return false;
  }
}
