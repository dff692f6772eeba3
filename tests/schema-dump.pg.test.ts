import { expect, it } from "vitest";
import { committedSchema, dumpSchema } from "../scripts/dump-schema.ts";
import { createTestTarget } from "./support/databases.ts";

it("docs/schema.txt is the schema that the migrations make (npm run schema:dump)", async () => {
  await using target = await createTestTarget();
  const now = await dumpSchema(target.admin);
  expect(now.split("\n").length).toBeGreaterThan(300);
  expect(now).toBe(await committedSchema());
});

it("every change of the schema shows in it", async () => {
  await using target = await createTestTarget();
  const before = await dumpSchema(target.admin);
  for (const change of [
    "alter table public.sync_jobs add column extra integer",
    "grant insert on public.sync_jobs to authenticated",
    "alter table public.sync_chains disable row level security",
    "create policy more on public.sync_conflicts for delete to authenticated using (true)",
    "create index on public.sync_reports (kind)",
    "grant execute on function sync.release_waiting(smallint) to anon",
    "alter function sync.release_waiting(smallint) security definer",
    "alter type public.sync_job_status add value 'odd'",
    "comment on table public.sync_jobs is 'changed'",
    "grant update (status) on public.sync_conflicts to authenticated".replace("status", "state"),
  ]) {
    const then = await dumpSchema(target.admin);
    await target.admin.unsafe(change);
    expect(await dumpSchema(target.admin), change).not.toBe(then);
  }
  expect(await dumpSchema(target.admin)).not.toBe(before);
});
