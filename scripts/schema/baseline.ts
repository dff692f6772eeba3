import type { DeclaredFile } from "./declared.ts";
import type { MigrationFile } from "./migration-files.ts";

/** What tells pg_cron its jobs. */
const SCHEDULE = "schemas/schedule.sql";

/**
 * The first migrations, which make a fresh database what supabase/schemas/ says: one with everything, then the
 * schedule in a transaction of its own. pg_cron learns of a new job by a message about its table; a transaction that
 * changes thousands of objects overruns the server's queue of such messages, pg_cron takes no notice of the overrun
 * (InvalidateJobCacheCallback, src/job_metadata.c), and never runs the job.
 */
export function baseline(files: readonly DeclaredFile[], release: string): readonly MigrationFile[] {
  const purpose = `everything that release ${release} has: the control tables, and the functions that change them`;
  const schedule =
    "the jobs that call sync-tick and watch what becomes of the calls; pg_cron notices them in a transaction of their own";
  return [
    {
      file: `20261101000100_release_${release.replaceAll(".", "_")}.sql`,
      sql: migrationSql(
        purpose,
        files.filter(({ path }) => path !== SCHEDULE),
      ),
    },
    {
      file: "20261101000200_schedule_sync_tick.sql",
      sql: migrationSql(
        schedule,
        files.filter(({ path }) => path === SCHEDULE),
      ),
    },
  ];
}

function migrationSql(purpose: string, files: readonly DeclaredFile[]): string {
  const header = [
    `-- Purpose: ${purpose}.`,
    "-- Locks:   none on existing objects.",
    "-- Reverse: npm run sync -- uninstall",
    "--",
    "-- Written by `npm run migration` from supabase/schemas/, until the release is made. Change these files instead.",
  ];
  return `${header.join("\n")}\n${files.map(({ path, sql }) => `\n-- supabase/${path}\n\n${sql}`).join("")}`;
}
