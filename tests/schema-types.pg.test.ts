import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { denied } from "../clinic/denied.ts";
import { generatedFiles, ROOT } from "../scripts/installations.ts";
import { sourceTypes, targetTypes } from "../scripts/schema-types.ts";
import { createTestSource, createTestTarget } from "./support/databases.ts";

const FILES = generatedFiles(`${ROOT}/clinic`);

describe("the types that entity files are checked against", () => {
  it("are those of the source (npm run schema:types), without the columns that never leave it", async () => {
    await using source = await createTestSource();
    const types = await sourceTypes(source.admin, denied);
    expect(types).toBe(readFileSync(FILES.sourceTypes, "utf8"));
    expect(types).not.toMatch(/password|card_bin|access_token/);
    await source.admin`alter table public.dispatch_office add column floor integer`;
    expect(await sourceTypes(source.admin, denied)).not.toBe(types);
  });

  it("have the BIN of a card where somebody has opted in to it with a reason, and never a secret", async () => {
    await using source = await createTestSource();
    const types = await sourceTypes(source.admin, {
      ...denied,
      optedIn: { card_bin: "Chargebacks are sorted by issuing bank." },
    });
    expect(types).toContain('card_bin: { type: "text" };');
    expect(await sourceTypes(source.admin, { ...denied, optedIn: { card_bin: " " } })).not.toContain("card_bin");
    const optedIn = { password: "Why not?", access_token: "Why not?", card_bin: "Why not?" };
    expect(await sourceTypes(source.admin, { ...denied, optedIn })).not.toMatch(/password|access_token/);
  });

  it("are those of the target, without the sync's own tables", async () => {
    await using target = await createTestTarget();
    const types = await targetTypes(target.admin);
    expect(types).toBe(readFileSync(FILES.targetTypes, "utf8"));
    expect(types).not.toMatch(/sync_|uuid_mappings/);
  });

  it("know domains, arrays, partitions, odd names and keys of several columns for what they are", async () => {
    await using source = await createTestSource();
    await source.admin.unsafe(`
      create domain public.cents as numeric(10, 2);
      create table public."odd ""name" (
        a integer, "on" integer, price public.cents, tags text[], made date, primary key (a, "on"),
        foreign key (a) references public.dispatch_office (id)) partition by range (a);
      create view public.seen as select 1 as one`);
    const types = await sourceTypes(source.admin, denied);
    expect(types).toContain(
      ["  'odd \"name': {", '    a: { type: "integer"; ids: "dispatch_office" };', '    on: { type: "integer" };'].join("\n"),
    );
    expect(types).toMatch(/price: \{ type: "numeric" \};\s+tags: \{ type: "other" \};\s+made: \{ type: "date" \};/);
    expect(types).not.toContain("seen");
  });
});
