import { writeFileSync } from "node:fs";
import { relative, resolve } from "node:path";
import type { Platform } from "../platform.ts";
import type { Demo } from "./demo.ts";
import { dim, line } from "./terminal.ts";

/** Everything that the command line reads of a file. */
function writeEnvFile(platform: Platform, dataDir: string): string {
  const file = resolve(dataDir, "isthmus.env");
  const { targetWorker, sourceReader } = platform.urls;
  const variables = {
    FUNCTIONS_URL: platform.functions.url,
    ISTHMUS_API_KEY: platform.secretKey,
    SOURCE_DB_URL: sourceReader,
    SOURCE_DB_TLS: "disable",
    TARGET_DB_URL: targetWorker,
    TARGET_DB_TLS: "disable",
    QSTASH_URL: platform.qstash.url,
    QSTASH_TOKEN: platform.qstash.token,
  };
  const lines = Object.entries(variables).map(([name, value]) => `${name}="${value}"\n`);
  writeFileSync(file, lines.join(""), { mode: 0o600 });
  return relative(".", file);
}

/** Tells how to reach everything, and writes a file that connects the command line. */
export function printConnections(platform: Platform, dataDir: string): void {
  const envFile = writeEnvFile(platform, dataDir);
  line(`  target (as Studio sees it)  psql ${platform.urls.targetOwner}`);
  line(`  source (read only)          psql ${platform.urls.sourceReader}`);
  line(`  functions                   ${platform.functions.url}   header apikey: ${platform.secretKey}`);
  line(`  command line                npm run sync -- check --env-file ${envFile}`);
  line(
    `  tables                      sync_executions, sync_chains, sync_page_log, sync_conflicts, uuid_mappings_enhanced, sync_reports`,
  );
}

export function printQueries(more: Demo["query"]): void {
  line(`\n  ${dim("-- what became of every record of the last run")}`);
  line(
    `  select e.entity_type, sum(read) as read, sum(inserted) as inserted, sum(updated) as updated, sum(waiting) as waiting, sum(in_conflict) as in_conflict`,
  );
  line(`    from sync_page_log l join sync_entities e on e.id = l.entity_id`);
  line(`   where execution_id = (select id from sync_executions order by started_at desc limit 1) group by 1;`);
  line(`\n  ${dim("-- what waits for what")}`);
  line(
    `  select entity_type, source_record_id, state, rule, remedy from sync_conflicts where state in ('waiting', 'open') limit 20;`,
  );
  line(`\n  ${dim(`-- ${more.says}`)}`);
  for (const text of more.lines) line(`  ${text}`);
}
