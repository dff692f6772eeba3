import { supabase } from "../../cli/setup/supabase-cli.ts";

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
export async function advise(url: string): Promise<{ ours: string[]; others: string[] }> {
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
export const DISLIKED = `
  create table public.shop_notes (id uuid, body text);
  create table public.shop_orders (id uuid primary key, note uuid);
  create table public.shop_lines (id uuid primary key, shop_order uuid references public.shop_orders (id));
  alter table public.shop_lines enable row level security;
  create policy mine on public.shop_lines for select using (auth.uid() = id);
  create function public.shop_total() returns bigint language sql as 'select 1::bigint';
  create view public.shop_overview as select * from public.shop_notes;`;

/** What the advisors say of DISLIKED: they have looked. */
export const SAID_OF_DISLIKED = [
  "auth_rls_initplan: shop_lines",
  "function_search_path_mutable: shop_total",
  "no_primary_key: shop_notes",
  "rls_disabled_in_public: shop_orders",
  "security_definer_view: shop_overview",
  "unindexed_foreign_keys: shop_lines",
];

/** What a project has that was made before 2026-10-30: every new object of public is open to the roles of the Data API. */
export const OPEN_DEFAULTS = `
  alter default privileges for role postgres in schema public grant all on tables to anon, authenticated, service_role;
  alter default privileges for role postgres in schema public grant all on sequences to anon, authenticated, service_role;
  alter default privileges for role postgres in schema public grant all on functions to anon, authenticated, service_role;`;
