import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { columnsOf } from "../scripts/catalog.ts";
import { runSyncCli } from "../cli/program.ts";
import { generateKinds } from "../scripts/generate-kinds.ts";
import { generateRegistry } from "../scripts/generate-registry.ts";
import { writeInstallation, type Written } from "../scripts/init/write.ts";
import { generatedFiles, loadInstallation, ROOT } from "../scripts/installations.ts";
import { sourceTypes } from "../scripts/schema-types.ts";
import { createContext, type Context } from "../shared/context.ts";
import type { Installation } from "../shared/entity/installation.ts";
import { definitionHash, validateRegistry } from "../shared/entity/validate-registry.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { compile } from "./support/compile.ts";
import { ownerUrl } from "./support/databases.ts";
import { WITHOUT_CLINIC } from "./support/music-shop.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import { LOCAL } from "./support/scratch.ts";

/** A company's two applications, which nobody made for a sync: typed, mixed-case, quoted and self-referencing. */
const SOURCE = `
  create type "Rank" as enum ('junior', 'senior');
  create table "Department" (
    "DepartmentId" integer primary key, "Name" varchar(80) not null, "ParentId" integer references "Department",
    "Code" integer unique not null);
  create table "Staff Member" (
    "Id" bigint primary key, "FullName" text not null, "DeptNo" integer references "Department", "Boss" bigint references "Staff Member",
    "Rank" "Rank", "HiredAt" timestamp, "Password Hash" text, "Salary" numeric(12,2), "Shoe Size" smallint);
  create table "order" (
    id integer primary key, "class" text, status integer not null, seller bigint not null references "Staff Member", placed_at timestamptz,
    paid boolean not null default false, meta text, tags text[], "from" date);
  create table "OrderLine" (
    id integer primary key, "orderId" integer not null references "order", "odd ""name" integer, "UnitPrice" numeric(10,2) not null);
  create table note (id uuid primary key, body text);
  create table leftover (id integer primary key);
  insert into "Department" values (1, 'All', null, 3), (3, 'Sales', 2, 1), (2, 'Trade', 1, 2);
  insert into "Staff Member" values
    (1, 'Ada', 1, null, 'senior', '2020-01-01 12:00', 'x', 5000.10, 38), (2, 'Brun', 3, 3, null, null, null, null, null),
    (3, 'Cleo', 3, 1, 'senior', '2021-07-01 12:00', 'y', 1, 44);
  insert into "order" values
    (1, 'gold', 1, 2, '2024-01-01 00:00+00', true, '{"a": 1}', '{x,y}', '2024-02-29'), (2, null, 2, 1, null, false, '', null, null);
  insert into "OrderLine" values (1, 1, 7, 0.10), (2, 1, null, 99999999.99), (3, 2, 8, 0)`;
const TARGET = `
  create type staff_rank as enum ('senior', 'head', 'junior');
  create type sale_status as enum ('open', 'done');
  create table departments (
    id uuid primary key default gen_random_uuid(), legacy_department_id bigint not null unique, name text not null,
    parent_id uuid references departments);
  create table staff_members (
    id uuid primary key default gen_random_uuid(), legacy_id bigint not null unique, full_name text not null,
    department_id uuid references departments, boss uuid references staff_members, rank staff_rank,
    hired_at timestamptz, salary numeric(12,2), label text generated always as (upper(full_name)) stored);
  create table orders (
    id uuid primary key default gen_random_uuid(), legacy_order_id bigint not null unique, class text, status sale_status not null,
    seller uuid not null references staff_members, placed_at timestamptz, paid boolean not null, meta jsonb, tags text[], "from" date,
    channel text not null, created_at timestamptz not null default now());
  create table "Order Lines" (
    id uuid primary key default gen_random_uuid(), "LegacyId" bigint not null unique, order_id uuid not null references orders,
    "ODD NAME" integer, unit_price numeric(10,2) not null)`;

/** What a person answers: the beginning of a question → what stands there instead of it. */
const ANSWERS: readonly (readonly [question: string, answer: string])[] = [
  ["No column of the target is like Shoe Size", '"Nobody needs it."'],
  ["No column of the target is like Code", '"The name says it."'],
  ["Is department_id what DeptNo says?", 'f.lookup("departments", "dept_no")'],
  ["In which time zone were the times of HiredAt meant?", '"Europe/Berlin"'],
  ["Who says that the times of HiredAt were meant there?", '"the shop is there"'],
  ["Which value of status is which of open, done?", 'f.mapEnum("status", { "1": "open", "2": "done" })'],
  ["orders needs channel", 'f.calculate([], () => "legacy")'],
];

/** In the repository, from where the files find the engine; swept like any other scratch. */
const folderOf = (name: string) => join(LOCAL, `tests-${process.pid}-${name}`);

describe("an installation that init proposes from two catalogs", () => {
  const proposed = folderOf("init");
  const decided = folderOf("init-decided");
  let test: InProcess;
  let written: Written;
  let company: Installation;
  let using: Context;

  beforeAll(async () => {
    test = await createInProcess();
    for (const { admin } of [test.source, test.target]) await admin.unsafe(WITHOUT_CLINIC);
    await test.source.admin.unsafe(SOURCE);
    await test.source.admin.unsafe("grant select on all tables in schema public to isthmus_reader");
    const owner = postgres(ownerUrl(test.target), { max: 1 });
    await owner.unsafe(TARGET);
    for (const folder of [proposed, decided]) rmSync(folder, { recursive: true, force: true });
    written = await writeInstallation(proposed, test.source.admin, test.target.admin);

    cpSync(proposed, decided, { recursive: true });
    for (const file of readdirSync(join(decided, "entities"))) decide(join(decided, "entities", file));
    const { registry, kinds } = generatedFiles(decided);
    writeFileSync(registry, await generateRegistry(join(decided, "entities")));
    company = await loadInstallation(decided);
    writeFileSync(kinds, await generateKinds(decided, company.entities));
    await owner.unsafe(workerGrants(company.entities));
    await owner.end();
    const { entities, codeHashes, columns, denied } = company;
    using = {
      ...test.context,
      entities: new Map(entities.map((entity) => [entity.name, entity])),
      hashes: new Map(entities.map((entity) => [entity.name, definitionHash(entity, codeHashes)])),
      columns,
      denied,
    };
  });
  afterAll(async () => {
    for (const folder of [proposed, decided]) rmSync(folder, { recursive: true, force: true });
    await test[Symbol.asyncDispose]();
  });

  it("has an entity for each table that the target has one like, and says why the others have none", () => {
    expect(written.entities.map(({ source, target, name }) => [source, target, name])).toEqual([
      ["Department", "departments", "departments"],
      ["OrderLine", "Order Lines", "order_lines"],
      ["Staff Member", "staff_members", "staff_members"],
      ["order", "orders", "orders"],
    ]);
    expect(Object.fromEntries(written.left.map(({ table, reason }) => [table, reason]))).toEqual({
      leftover: expect.stringContaining("--tables 'leftover=name'") as string,
      note: expect.stringContaining("no column that is a smallint, integer or bigint") as string,
    });
    expect(written.denied).toEqual(["Password Hash"]);
  });

  it("compiles, and nothing starts before everything that needs a decision has one", async () => {
    expect(Object.values(compile(filesOf(proposed), [], proposed)).flat()).toEqual([]);
    expect(written.open).toEqual([
      "departments: ignored column Code is undecided: No column of the target is like Code. Read it into one, or say why it is left out.",
      "orders: field status is undecided: Which value of status is which of open, done? f.mapEnum says it.",
      "orders: field channel is undecided: orders needs channel, and order has no column like it. What is it?",
      "staff_members: column hired_at is undecided: In which time zone were the times of HiredAt meant? Such as Europe/Berlin, or UTC.",
      "staff_members: ignored column Shoe Size is undecided: No column of the target is like Shoe Size. Read it into one, or say why it is left out.",
      "staff_members: field department_id is undecided: Is department_id what DeptNo says? Both lead to departments, and their names differ. If so: f.lookup.",
    ]);
    const { config, log, meter } = test.context;
    const env = Object.fromEntries(
      Object.entries(config).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)]),
    );
    const begin = (installation: Installation) => createContext({ env, log, meter, waitUntil: () => undefined }, installation);
    const undecided = await loadInstallation(proposed);
    expect(() => begin(undecided)).toThrow(written.open.join(" "));
    expect(begin(company).entities.size).toBe(company.entities.length);
  });

  it("compiles and is valid once they are answered", () => {
    expect(Object.values(compile(filesOf(decided), [], decided)).flat()).toEqual([]);
    expect(validateRegistry(company.entities, company.denied)).toEqual([]);
  });

  it("syncs: every value is in the target as the source has it, and follows what changes", async () => {
    await test.sync({}, using);
    const landed = async () => [
      ...(await test.target.admin`
        select d.legacy_department_id::integer as id, d.name, p.name as parent
          from departments d left join departments p on p.id = d.parent_id order by 1`),
      ...(await test.target.admin`
        select s.legacy_id::integer as id, s.label, d.name as department, b.full_name as boss, s.rank,
               (s.hired_at at time zone 'UTC')::text as hired, s.salary::text
          from staff_members s left join departments d on d.id = s.department_id left join staff_members b on b.id = s.boss order by 1`),
      ...(await test.target.admin`
        select o.legacy_order_id::integer as id, o.class, o.status, s.full_name as seller, (o.placed_at at time zone 'UTC')::text as placed,
               o.paid, o.meta::text, o.tags::text, o."from"::text, o.channel
          from orders o join staff_members s on s.id = o.seller order by 1`),
      ...(await test.target.admin`
        select l."LegacyId"::integer as id, o.legacy_order_id::integer as "order", l."ODD NAME" as odd, l.unit_price::text as price
          from "Order Lines" l join orders o on o.id = l.order_id order by 1`),
    ];
    const order = { id: 1, class: "gold", status: "open", seller: "Brun", placed: "2024-01-01 00:00:00", paid: true };
    const expected = [
      { id: 1, name: "All", parent: null },
      { id: 2, name: "Trade", parent: "All" },
      { id: 3, name: "Sales", parent: "Trade" },
      { id: 1, label: "ADA", department: "All", boss: null, rank: "senior", hired: "2020-01-01 11:00:00", salary: "5000.10" },
      { id: 2, label: "BRUN", department: "Sales", boss: "Cleo", rank: null, hired: null, salary: null },
      { id: 3, label: "CLEO", department: "Sales", boss: "Ada", rank: "senior", hired: "2021-07-01 10:00:00", salary: "1.00" },
      { ...order, meta: '{"a": 1}', tags: "{x,y}", from: "2024-02-29", channel: "legacy" },
      {
        ...{ id: 2, class: null, status: "done", seller: "Ada", placed: null, paid: false },
        ...{ meta: null, tags: null, from: null, channel: "legacy" },
      },
      { id: 1, order: 1, odd: 7, price: "0.10" },
      { id: 2, order: 1, odd: null, price: "99999999.99" },
      { id: 3, order: 2, odd: 8, price: "0.00" },
    ];
    expect(await landed()).toEqual(expected);
    expect(await test.target.admin`select from public.sync_conflicts`).toHaveLength(0);

    await test.source.admin`update "Staff Member" set "Boss" = 2, "Rank" = 'junior' where "Id" = 1`;
    await test.source.admin`insert into "OrderLine" values (4, 2, 9, 1.5)`;
    await test.sync({}, using);
    expect(await landed()).toEqual([
      ...expected.map((row) => ("label" in row && row.label === "ADA" ? { ...row, boss: "Brun", rank: "junior" } : row)),
      { id: 4, order: 2, odd: 9, price: "1.50" },
    ]);
  });

  it("is proposed of chosen tables alone, also where the names differ, and overwrites nothing", async () => {
    const folder = folderOf("init-chosen");
    mkdirSync(folder, { recursive: true });
    await expect(writeInstallation(folder, test.source.admin, test.target.admin)).rejects.toThrow("is there already");
    rmSync(folder, { recursive: true });
    const chosen = new Map([
      ["leftover", "departments"],
      ["nothing", null],
    ]);
    try {
      const { entities, left, open } = await writeInstallation(folder, test.source.admin, test.target.admin, chosen);
      expect(entities.map(({ source, target }) => `${source} → ${target}`)).toEqual(["leftover → departments"]);
      expect(left).toEqual([{ table: "nothing", reason: "the source has no such table" }]);
      expect(open).toEqual([
        "departments: field name is undecided: departments needs name, and leftover has no column like it. What is it?",
      ]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("is there as a whole or not at all: what fails leaves nothing behind, and nothing of others is touched", async () => {
    const folder = folderOf("init-taken");
    const writing = writeInstallation(folder, test.source.admin, test.target.admin, new Map([["order", null]]));
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "theirs"), "");
    try {
      await expect(writing).rejects.toThrow("is there already");
      expect(readdirSync(LOCAL).filter((name) => name.includes("-init-taken"))).toEqual([basename(folder)]);
      expect(readdirSync(folder)).toEqual(["theirs"]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("is written by the command, which names the legacy keys and what is left to do", async () => {
    const folder = folderOf("init-command");
    const name = relative(ROOT, folder);
    let [out, err] = ["", ""];
    const terminal = {
      env: { SOURCE_DB_URL: test.source.superuserUrl, TARGET_DB_URL: ownerUrl(test.target) },
      out: (text: string) => void (out += text),
      err: (text: string) => void (err += text),
    };
    const args = ["init", name, "--tables", "order,OrderLine,note,Staff Member=staff_members"];
    try {
      expect([await runSyncCli(args, terminal as unknown as Parameters<typeof runSyncCli>[1]), err]).toEqual([0, ""]);
      expect(out).toContain(`${name}/ was written: 3 entities.`);
      expect(out).toContain("entities/staff-members.ts: Staff Member → staff_members, Id → legacy_id (the legacy key)");
      expect(out).toContain("entities/order-lines.ts: OrderLine → Order Lines, id → LegacyId (the legacy key)");
      expect(out).toMatch(/No entity was made of:\n {2}note: no column/);
      expect(out).toContain("  orders: field channel is undecided: ");
      expect(readdirSync(folder).sort()).toEqual(["denied.ts", "entities", "installation.ts", "schema"]);
      expect(readFileSync(join(folder, "denied.ts"), "utf8")).toContain(`npm run schema:types -- ${name} `);
      expect(await runSyncCli(args, terminal as unknown as Parameters<typeof runSyncCli>[1])).toBe(1);
      expect(err).toContain("is there already");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("has of a reference the column, too, and takes none into another schema for one into this", async () => {
    await test.source.admin.unsafe(`create schema elsewhere; create table elsewhere."Department" (id integer primary key);
      create table bill (id integer primary key, unit integer references "Department" ("Code"),
        dept integer references "Department", other integer references elsewhere."Department")`);
    try {
      const bill = (await columnsOf(test.source.admin)).filter(({ table }) => table === "bill");
      expect(bill.map(({ column, references, referenced }) => [column, references, referenced])).toEqual([
        ["id", null, null],
        ["unit", "Department", "Code"],
        ["dept", "Department", "DepartmentId"],
        ["other", null, null],
      ]);
      const types = await sourceTypes(test.source.admin, company.denied);
      const [, ofBill = ""] = /\n {2}bill: \{\n(.*?)\n {2}\};/s.exec(types) ?? [];
      expect(ofBill.match(/ids: "\w+"/g)).toEqual(['ids: "bill"', 'ids: "Department"']);
    } finally {
      await test.source.admin.unsafe("drop table bill; drop schema elsewhere cascade");
    }
  });
});

describe("npm run sync -- init", () => {
  it.each([
    [["init", "Not a Name"], {}, "SOURCE_DB_URL is not set"],
    [
      ["init", "Not a Name"],
      { SOURCE_DB_URL: "postgres://a", TARGET_DB_URL: "postgres://b" },
      "can be no name of an installation",
    ],
  ])("%j says what it lacks, with exit code 2", async (args, env, says) => {
    let told = "";
    const terminal = { env, out: () => undefined, err: (text: string) => void (told += text) };
    expect(await runSyncCli(args, terminal as unknown as Parameters<typeof runSyncCli>[1])).toBe(2);
    expect(told).toContain(says);
  });
});

/** Answers every question of an entity file. */
function decide(file: string): void {
  const text = readFileSync(file, "utf8").replace(
    /undecided\(\s*("(?:[^"\\]|\\.)*")(?:,\s*"(?:[^"\\]|\\.)*")*,?\s*\)/g,
    (_, question: string) => {
      const answer = ANSWERS.find(([begins]) => (JSON.parse(question) as string).startsWith(begins));
      if (!answer) throw new Error(`nobody answers ${question}`);
      return answer[1];
    },
  );
  writeFileSync(file, text);
}

/** The files of an installation, by their path in it. */
function filesOf(folder: string): Readonly<Record<string, string>> {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}
