// Requests of a dry run and requests in earnest stand in one table: what reads or changes some says whose.
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const FILES = ["supabase/schemas/functions", "shared"].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(sql|ts)$/.test(name) && !name.endsWith(".gen.ts"))
    .map((name) => join(folder, name)),
);

/** What a statement reads or changes of the table, up to the next such place, without saying whose requests these are. */
function unowned(text: string): string[] {
  const places = text.split(/(?=(?<!insert into )public\.sync_pending_keys\b)/).slice(1);
  return places
    .filter((place) => place.startsWith("public.sync_pending_keys"))
    .map((place) => (place.split(/;\n|\bon conflict\b|\bcomment on\b|\binsert into\b/)[0] ?? "").slice(0, 400))
    .filter((place) => !/\bexecution_id (is (not )?null|[=>])|\$\{asked\(/.test(place));
}

describe("requests to read records again", () => {
  it.each(
    FILES.filter((file) =>
      /from public\.sync_pending_keys|(update|join) public\.sync_pending_keys/.test(readFileSync(join(ROOT, file), "utf8")),
    ),
  )("%s says whose it reads", (file) => {
    expect(unowned(readFileSync(join(ROOT, file), "utf8"))).toEqual([]);
  });

  it.each([
    ["select from public.sync_pending_keys k where k.entity_id = e.id", 1],
    ["select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = e.id", 0],
    ["delete from public.sync_pending_keys k where k.execution_id = v_id", 0],
    ["update public.sync_pending_keys set gone = false;\nselect execution_id = 1", 1],
    ["insert into public.sync_pending_keys (entity_id) values (1) on conflict do nothing", 0],
  ])("in %s finds %i", (text, found) => {
    expect(unowned(text)).toHaveLength(found);
  });
});
