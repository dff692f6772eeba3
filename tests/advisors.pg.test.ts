import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import postgres from "postgres";
import { describe, expect, it } from "vitest";
import { supabase } from "../local/cli/setup/supabase-cli.ts";
import { applicationSchema, pushMigrations } from "../local/target/supabase.ts";
import { createTestTarget, ownerUrl } from "./support/databases.ts";

/** What is ours, wherever it stands. */
const OURS = /^(sync_|uuid_mappings_enhanced|isthmus_)/;
/** Every index of a database that nobody has used is listed, the application's too; it says nothing of what stands there. */
const OF_USE = ["unused_index"];

interface Finding {
  readonly name: string;
  readonly detail: string;
  readonly metadata: { readonly schema?: string; readonly name?: string };
}

/** What the dashboard's advisors list, security and performance, from the lowest level on: the real CLI's public lints. */
async function advise(url: string): Promise<{ ours: string[]; others: string[] }> {
  const said = await supabase(
    ["db", "advisors", "--type", "all", "--level", "info", "--output-format", "json", `--remote=${url}`],
    { PGSSLMODE: "disable" },
  );
  const { results } = JSON.parse(said.slice(said.indexOf("{"))) as { results: readonly Finding[] };
  const told = results.filter(({ name }) => !OF_USE.includes(name));
  const isOurs = ({ metadata, detail }: Finding) =>
    metadata.schema === "sync" || OURS.test(metadata.name ?? "") || /\b(sync|uuid_mappings_enhanced|isthmus)[_.]/.test(detail);
  const named = (found: readonly Finding[]) => found.map(({ name, metadata }) => `${name}: ${metadata.name ?? ""}`).sort();
  return { ours: named(told.filter(isOurs)), others: named(told.filter((found) => !isOurs(found))) };
}

/** What an application may have that the advisors do not like: they look, and what is ours is not mistaken for it. */
const APPLICATION = `
  create table public.shop_notes (id uuid, body text);
  create table public.shop_orders (id uuid primary key, note uuid);
  create table public.shop_lines (id uuid primary key, shop_order uuid references public.shop_orders (id));
  alter table public.shop_lines enable row level security;
  create policy mine on public.shop_lines for select using (auth.uid() = id);
  create function public.shop_total() returns bigint language sql as 'select 1::bigint';
  create view public.shop_overview as select * from public.shop_notes;`;
/** What a project has that was made before 2026-10-30: every new object of public is open to the roles of the Data API. */
const OPEN_DEFAULTS = `
  alter default privileges for role postgres in schema public grant all on tables to anon, authenticated, service_role;
  alter default privileges for role postgres in schema public grant all on sequences to anon, authenticated, service_role;
  alter default privileges for role postgres in schema public grant all on functions to anon, authenticated, service_role;`;

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
      await owner.unsafe(`${OPEN_DEFAULTS}${applicationSchema()}${APPLICATION}`).simple();
      await owner.end();
      await pushMigrations(url("postgres"));
      const { ours, others } = await advise(url("postgres"));
      expect(others).toEqual(
        expect.arrayContaining([
          "auth_rls_initplan: shop_lines",
          "function_search_path_mutable: shop_total",
          "no_primary_key: shop_notes",
          "rls_disabled_in_public: shop_orders",
          "security_definer_view: shop_overview",
          "unindexed_foreign_keys: shop_lines",
        ]),
      );
      expect(ours).toEqual([]);
    } finally {
      await db.admin.unsafe(`drop database "${name}" with (force)`);
    }
  });
});
