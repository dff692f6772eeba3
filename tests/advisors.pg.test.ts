import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import postgres from "postgres";
import { describe, expect, it } from "vitest";
import { applicationSchema, pushMigrations } from "../local/target/supabase.ts";
import { advise, DISLIKED, OPEN_DEFAULTS, SAID_OF_DISLIKED } from "./support/advisors.ts";
import { createTestTarget, ownerUrl } from "./support/databases.ts";

describe("the advisors of a Supabase project", () => {
  it("list nothing of ours on a new project", async () => {
    await using db = await createTestTarget();
    expect((await advise(ownerUrl(db))).ours).toEqual([]);
  });

  const BROKEN: readonly { finds: string; broken: string }[] = [
    { finds: "rls_disabled_in_public: sync_jobs", broken: "alter table public.sync_jobs disable row level security" },
    {
      finds: "no_primary_key: sync_queue_counts",
      broken: "alter table public.sync_queue_counts drop constraint sync_queue_counts_pkey",
    },
    { finds: "unindexed_foreign_keys: sync_alerts", broken: "drop index public.sync_alerts_execution_id_idx" },
    { finds: "function_search_path_mutable: call_tick", broken: "alter function sync.call_tick() reset search_path" },
    {
      finds: "multiple_permissive_policies: sync_alerts",
      broken: "create policy more on public.sync_alerts for select to authenticated using ((select auth.uid()) is not null)",
    },
  ];
  it("list what is broken", async () => {
    await using db = await createTestTarget();
    for (const { broken } of BROKEN) await db.admin.unsafe(broken);
    expect((await advise(ownerUrl(db))).ours).toEqual(expect.arrayContaining(BROKEN.map(({ finds }) => finds)));
  });

  it("list nothing of ours beside an application's own tables, on a project whose new objects are open to everybody", async () => {
    await using db = await createTestTarget();
    const name = `target_${randomBytes(6).toString("hex")}`;
    const url = (role: string) => db.url(role).replace(/[^/]+$/, name);
    await db.admin.unsafe(`create database "${name}"`);
    try {
      const admin = postgres(url("supabase_admin"), { max: 1, onnotice: () => undefined });
      await admin.unsafe(readFileSync(resolve(import.meta.dirname, "../local/target/bootstrap.sql"), "utf8")).simple();
      await admin.end();
      const owner = postgres(url("postgres"), { max: 1, onnotice: () => undefined });
      await owner.unsafe(`${OPEN_DEFAULTS}${applicationSchema()}${DISLIKED}`).simple();
      await owner.end();
      await pushMigrations(url("postgres"));
      const { ours, others } = await advise(url("postgres"));
      expect(others).toEqual(expect.arrayContaining(SAID_OF_DISLIKED));
      expect(ours).toEqual([]);
    } finally {
      await db.admin.unsafe(`drop database "${name}" with (force)`);
    }
  });
});
