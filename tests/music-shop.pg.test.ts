import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { installation } from "../examples/music-shop/installation.ts";
import { generateKinds } from "../scripts/generate-kinds.ts";
import { generateRegistry } from "../scripts/generate-registry.ts";
import { generatedFiles, ROOT } from "../scripts/installations.ts";
import { sourceTypes, targetTypes } from "../scripts/schema-types.ts";
import { validateRegistry } from "../shared/entity/validate-registry.ts";
import { acknowledge } from "../shared/contract/check.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { adopt } from "./support/adoption.ts";
import { createShop, SHOP, type Shop } from "./support/music-shop.ts";
import { expectSeen, handsOf, type Hands } from "./support/sabotage.ts";
import { musicShop } from "./verifier/music-shop.ts";

describe("a music shop of eleven tables, synced as it is", () => {
  let shop: Shop;
  /** What the verifier finds after the first load, and what people have to see for good. */
  let known: string[];
  const source = (sql: string) => shop.source.admin.unsafe(sql);
  const target = (sql: string) => shop.target.admin.unsafe(sql);
  const ids = async (sql: string) => (await source(sql)).map((row) => String(Object.values(row)[0]));
  /** Something happened; the verifier finds this beside what is known. */
  const expectFound = async (...more: string[]) => {
    expect(await shop.found()).toEqual([...known, ...more].sort());
  };
  const grants = () => target(workerGrants([...shop.context.entities.values()]));
  const changes = async (execution: string) =>
    (
      await shop.target.admin<{ n: number }[]>`
        select coalesce(sum(inserted + updated + deleted), 0)::integer as n from public.sync_page_log where execution_id = ${execution}`
    )[0]?.n;

  beforeAll(async () => {
    shop = await createShop();
    // One customer lives in a country without a code: the record is in the queue, and its invoices wait for it.
    known = [
      "customers: row_missing 60 (queue)",
      ...(await ids(`select "InvoiceId" from "Invoice" where "CustomerId" = 60`)).map(
        (id) => `invoices: row_missing ${id} (queue)`,
      ),
      ...(await ids(`select "InvoiceLineId" from "InvoiceLine" join "Invoice" using ("InvoiceId") where "CustomerId" = 60`)).map(
        (id) => `invoice lines: row_missing ${id} (queue)`,
      ),
    ];
  });
  afterAll(() => shop[Symbol.asyncDispose]());

  it("has generated files that are what its schemas and entity files say, and is valid", async () => {
    const files = generatedFiles(SHOP);
    expect(readFileSync(files.sourceTypes, "utf8")).toBe(await sourceTypes(shop.source.admin, installation.denied));
    expect(readFileSync(files.targetTypes, "utf8")).toBe(await targetTypes(shop.target.admin));
    expect(readFileSync(files.registry, "utf8")).toBe(await generateRegistry(resolve(SHOP, "entities")));
    expect(readFileSync(files.kinds, "utf8")).toBe(await generateKinds(SHOP, installation.entities));
    expect(validateRegistry(installation.entities, installation.denied)).toEqual([]);
  });

  it("is the example of docs/entities.md, as its files stand", () => {
    const text = readFileSync(resolve(ROOT, "docs/entities.md"), "utf8");
    const shown = [...text.matchAll(/^```ts (examples\/\S+)\n(.*?)^```$/gms)];
    expect(shown.length).toBeGreaterThan(0);
    for (const [, file = "", code] of shown) expect(code, file).toBe(readFileSync(resolve(ROOT, file), "utf8"));
  });

  it("is the example of the README, as its file ends", () => {
    const [, code = ""] = /^```ts\n(.*?)^```$/ms.exec(readFileSync(resolve(ROOT, "README.md"), "utf8")) ?? [];
    expect(code).toContain("defineEntity");
    expect(readFileSync(resolve(SHOP, "entities/albums.ts"), "utf8").endsWith(code)).toBe(true);
  });

  it("is planned by a dry run, which writes nothing, and lands as planned", async () => {
    const planned = await shop.sync({ dryRun: true });
    const missing = await shop.found();
    expect(missing.filter((line) => !/: row_missing \d+$/.test(line))).toEqual([]);
    const [plan] = await shop.target.admin<{ inserted: number; stopped: number }[]>`
      select sum((e -> 'counts' ->> 'inserted')::integer)::integer as inserted,
             sum((e -> 'counts' ->> 'waiting')::integer + (e -> 'counts' ->> 'inConflict')::integer)::integer as stopped
        from public.sync_reports r cross join lateral jsonb_array_elements(r.body -> 'entities') e
       where r.execution_id = ${planned.execution} and r.kind = 'plan'`;
    const { execution } = await shop.sync();
    expect(await changes(execution)).toBe(plan?.inserted);
    expect((plan?.inserted ?? 0) + (plan?.stopped ?? 0)).toBe(missing.length);
    expect(known).toHaveLength(13);
    await expectFound();
  });

  const plain = (more: string) => `
    create or replace function public.plain_name(name text) returns text language sql immutable set search_path = ''
    return lower(regexp_replace(name, '[^[:alnum:]]+', ' ', 'g')) || case when name like '%No. 1' then '${more}' else '' end`;
  it.each<[title: string, entity: string, breaks: (hands: Hands) => readonly string[], says: readonly string[]]>([
    ["a generated column that is older than its function", "artists", () => [plain("!")], ["generated ID Search Name"]],
    ["nothing, where that function computes the same", "artists", () => [plain("")], []],
    [
      "a column that is generated no longer",
      "tracks",
      () => [`alter table "Tracks" alter column "Duration" drop expression`],
      ["column_generated Duration"],
    ],
    [
      "other letters of the same citext",
      "artists",
      ({ forge }) => [forge(`"Name" = upper("Name"::text)`, "Name")],
      ["form ID Name"],
    ],
    [
      "other digits of the same number",
      "tracks",
      ({ forge }) => [forge(`"UnitPrice" = "UnitPrice" + 0.000`, "UnitPrice")],
      ["form ID UnitPrice"],
    ],
    ["blanks behind a text", "customers", ({ forge }) => [forge("street = street || ' '", "street")], ["value ID street"]],
    [
      "a text that is cut",
      "invoices",
      () => [`alter table "Invoices" alter column "Currency" type char(2) using left("Currency", 2)`],
      ["column_retyped Currency", "inexact ALL Currency"],
    ],
    [
      "nothing that nobody was told of, where a trigger changed a value",
      "customers",
      ({ forge, warn }) => [forge("email = lower(email::text)", "email"), warn("email")],
      ["form ID email (trigger)"],
    ],
    [
      "a value that a trigger changed, and nobody was told of",
      "customers",
      ({ forge }) => [forge("email = lower(email::text)", "email")],
      ["form ID email"],
    ],
  ])("is seen to be broken by %s", async (_, entity, breaks, says) => {
    const definition = musicShop.find((one) => one.entity === entity);
    if (!definition) throw new Error(`${entity} is not recomputed`);
    await expectSeen(
      shop.sides.source,
      shop.sides.target,
      definition,
      { breaks: breaks(handsOf(definition)), says },
      shop.shapes(),
    );
  });

  it.each(["digest", "full", "xmin"] as const)("is left as it is by %s", async (capture) => {
    const { execution } = await shop.sync({ capture });
    expect(await changes(execution)).toBe(0);
    await expectFound();
  });

  it("follows what the source changes, inserts and exchanges", async () => {
    await source(`
      update "Artist" set "Name" = upper("Name") where "ArtistId" in (1, 5);
      update "Artist" set "Name" = null where "ArtistId" = 2;
      update "Album" set "ArtistId" = 3, "Title" = ' ' where "AlbumId" = 4;
      update "Track" set "UnitPrice" = 1.10, "Bytes" = null, "GenreId" = null, "Milliseconds" = 2147483647 where "TrackId" in (7, 8);
      update "MediaType" set "Name" = 'Video, protected' where "MediaTypeId" = 5;
      update "PlaylistTrack" set "TrackId" = 1200 - "TrackId" where "PlaylistId" = 3 and "TrackId" < 500;
      update "Employee" set "ReportsTo" = 12, "HireDate" = '2024-07-01 08:00', "BirthDate" = null where "EmployeeId" in (4, 5);
      update "Employee" e set "Email" = (select "Email" from "Employee" o where o."EmployeeId" = 9 - e."EmployeeId") where "EmployeeId" in (3, 6);
      update "Customer" set "Country" = 'France', "PostalCode" = '75116', "Company" = 'null' where "CustomerId" between 10 and 15;
      update "Invoice" set "Total" = 12345678.90, "BillingCountry" = null, "InvoiceDate" = '2024-01-01 00:00:00.123' where "InvoiceId" in (3, 4);
      update "InvoiceLine" set "Quantity" = 9, "UnitPrice" = 0.01 where "InvoiceId" = 3;
      insert into "Artist" values (500, 'Zoë'); insert into "Album" values (500, 'New', 500);
      insert into "Track" values (5000, 'New', 500, 2, 3, null, 1, 1, 99999999.99);
      insert into "PlaylistTrack" ("PlaylistId", "TrackId") values (1, 5000);
      insert into "Invoice" values (5000, 77, '2024-02-29 23:59:59.999', null, null, null, 'Canada', null, 99999999.99);
      insert into "InvoiceLine" values (5000, 5000, 5000, 99999999.99, 1)`);
    await shop.sync();
    await expectFound();
  });

  it("follows what the source deletes, and asks where it is declared so", async () => {
    await source(`
      delete from "InvoiceLine" where "InvoiceId" = 10 or "InvoiceLineId" = 5000;
      delete from "Invoice" where "InvoiceId" = 10;
      delete from "PlaylistTrack" where "PlaylistId" = 18 or "TrackId" = 5000;
      delete from "Playlist" where "PlaylistId" = 18;
      delete from "Track" where "TrackId" = 5000`);
    await shop.sync({ capture: "digest" });
    await expectFound("invoices: row_surplus 10 (queue)");
    await target(
      `update public.sync_conflicts set resolution_strategy = 'source_wins' where rule = 'deleted_in_source' and state = 'open'`,
    );
    await expectFound();
    await source(
      `insert into "Playlist" values (18, 'again'); insert into "Track" values (5000, 'Again', 500, 2, 3, null, 1, 1, 1)`,
    );
    await shop.sync();
    await expectFound();
  });

  it("keeps what people edit, asks them, and does what they decide", async () => {
    await source(`
      update "Customer" set "Phone" = 'source' where "CustomerId" = 1; update "Customer" set "City" = 'source' where "CustomerId" = 2;
      update "Customer" set "Address" = 'source' where "CustomerId" = 3`);
    await target(`
      update customers set phone = 'person' where legacy_customer_id = 1; update customers set city = 'person' where legacy_customer_id = 2;
      update customers set street = 'person', newsletter = true where legacy_customer_id = 3; update customers set fax = 'person' where legacy_customer_id = 4;
      delete from "Playlist Tracks" where "Legacy Playlist Track Id" = 1`);
    await shop.sync({ capture: "digest" });
    const kept = ["customers: value 2 city (decision)", "customers: value 4 fax (edit)"];
    const lost = ["mapping_without_row 1", "row_missing 1"].map((line) => `Playlist Tracks: ${line}`);
    await expectFound("customers: value 1 phone (queue)", ...kept, ...lost.map((line) => `${line} (queue)`));
    await target(`
      update public.sync_conflicts set resolution_strategy = case rule when 'both_changed' then 'merge' else 'target_wins' end::public.conflict_resolution_strategy,
             resolution_data = case rule when 'both_changed' then '{"phone": "both"}'::jsonb end
       where state = 'open' and rule in ('both_changed', 'target_deleted')`);
    const decided = ["customers: value 1 phone (decision)", ...kept, ...lost.map((line) => `${line} (decision)`)];
    await expectFound(...decided);
    for (const capture of ["full", "digest"] as const) {
      await shop.sync({ capture });
      await expectFound(...decided);
    }
    known = [...known, ...decided];
  });

  it("tells what a trigger of the target makes of a value", async () => {
    await target(`
      create function public.small_letters() returns trigger language plpgsql as $$ begin new.email := lower(new.email::text); return new; end $$;
      create trigger small_letters before insert or update on customers for each row execute function public.small_letters()`);
    await acknowledge(shop.context, undefined, "a test");
    await source(`update "Customer" set "Email" = 'New.' || "Email" where "CustomerId" in (20, 21)`);
    await shop.sync();
    const told = ["customers: form 20 email (trigger)", "customers: form 21 email (trigger)"];
    await expectFound(...told);
    await target(`drop trigger small_letters on customers`);
    await source(`update "Customer" set "Email" = 'Newer@X.example' where "CustomerId" in (20, 21)`);
    await shop.sync();
    await expectFound();
  });

  it("finds again what DDL on the target has emptied, rounded and retyped", async () => {
    await target(`
      alter table customers drop column company; alter table customers add column company text;
      alter table "Tracks" alter column "UnitPrice" type numeric(14,4);
      alter table "Invoices" alter column "InvoiceDate" type timestamptz(0)`);
    await grants();
    const shapes = [
      "customers: column_replaced company",
      "invoices: column_retyped InvoiceDate",
      "tracks: column_retyped UnitPrice",
    ];
    const companies = await ids(`select "CustomerId" from "Customer" where lower("Company") <> 'null' and "CustomerId" <> 60`);
    const rounded = await ids(`
      select "InvoiceId" from "Invoice" where "CustomerId" <> 60 and "InvoiceDate" <> date_trunc('second', "InvoiceDate")`);
    expect(companies.length).toBeGreaterThan(20);
    expect(rounded.length).toBeGreaterThan(400);
    const emptied = companies.flatMap((id) => [`customers: state_left ${id} company`, `customers: value ${id} company`]);
    await expectFound(...shapes, ...emptied, ...rounded.map((id) => `invoices: inexact ${id} InvoiceDate`));
    await shop.sync();
    await expectFound(...shapes, ...rounded.map((id) => `invoices: inexact ${id} InvoiceDate (queue)`));
    await target(`alter table "Invoices" alter column "InvoiceDate" type timestamptz(3)`);
    await shop.sync({ capture: "digest" });
    await shop.look();
    await expectFound();
  });
});

describe("a music shop that an earlier migration has begun", () => {
  it("is adopted, and ends as one that was empty", { timeout: 60_000 }, async () => {
    await using shop = await createShop();
    await shop.target.admin.unsafe(`
      insert into "Artists" ("LegacyArtistId", "Name") select g, 'old ' || g from generate_series(1, 60) g;
      insert into "Albums" ("LegacyAlbumId", "Title", "ArtistId") select g, 'old', (select id from "Artists" where "LegacyArtistId" = 1 + g % 60) from generate_series(1, 90) g;
      insert into employees (legacy_employee_id, last_name, first_name, level, address, hired_at) select g, 'old', 'old', 'staff', '{}', now() from generate_series(1, 5) g`);
    const ids = await shop.target
      .admin`select id from "Artists" union all select id from "Albums" union all select id from employees order by 1`;
    await adopt(shop);
    const adopted = await shop.found();
    expect(adopted.filter((line) => line.includes("mapping_without_state"))).toHaveLength(155);
    expect(adopted.filter((line) => !/mapping_without_state|row_missing|value \d+|form \d+/.test(line))).toEqual([]);
    await shop.sync();
    expect((await shop.found()).filter((line) => !/row_missing \d+ \(queue\)$/.test(line))).toEqual([]);
    expect(
      (
        await shop.target
          .admin`select id from public.uuid_mappings_enhanced where entity_uuid = any (${ids.map(({ id }) => id as string)}::uuid[])`
      ).length,
    ).toBe(155);
  });
});
