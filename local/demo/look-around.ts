import { writeFileSync } from "node:fs";
import { relative, resolve } from "node:path";
import type { Platform } from "../platform.ts";
import type { Demo } from "./demo.ts";
import { dim, line } from "./terminal.ts";

/** Tells how to reach everything, and writes a file that connects the command line. */
export function printConnections(platform: Platform, dataDir: string): void {
  const envFile = resolve(dataDir, "cli.env");
  writeFileSync(envFile, `FUNCTIONS_URL=${platform.functions.url}\nISTHMUS_API_KEY=${platform.secretKey}\n`, { mode: 0o600 });
  line(`  target (as Studio sees it)  psql ${platform.urls.targetOwner}`);
  line(`  source (read only)          psql ${platform.urls.sourceReader}`);
  line(`  functions                   ${platform.functions.url}   header apikey: ${platform.secretKey}`);
  line(`  command line                npm run sync -- --env-file ${relative(".", envFile)} executions`);
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
