import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { expect, it } from "vitest";
import { checkContract } from "../shared/contract/check-contract.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { beginSource } from "../shared/target/plan.ts";
import { createOwnSource } from "./support/own-source.ts";
import { createPipeline } from "./support/pipeline.ts";
import { scratchFolder } from "./support/scratch.ts";
import { entityOf, ENTITY } from "./support/stranger.ts";

const YEN = "ja_JP.utf8";

/** A folder of locales with the yen's, which a server of our own looks into. undefined: this machine cannot make one. */
function withYen(): string | undefined {
  const folder = scratchFolder("locales");
  mkdirSync(folder, { recursive: true });
  const { status } = spawnSync("localedef", ["-i", "ja_JP", "-f", "UTF-8", join(folder, YEN)]);
  return status === 0 ? folder : undefined;
}
const locales = withYen();

it.skipIf(locales === undefined)("an amount in yen is refused, not read as a hundredth", async () => {
  process.env["LOCPATH"] = locales;
  await using source = await createOwnSource();
  delete process.env["LOCPATH"];
  const entity = entityOf({ source: "old", target: "new", columns: { price: { type: "money" } } });
  await using test = await createPipeline({ entities: [entity], env: { SOURCE_DB_URL: source.readerUrl } });
  await source.admin.unsafe(`
    create table public.old (id bigint primary key, price money);
    grant select on public.old to isthmus_reader`);
  await test.target.admin.unsafe(`
    create table public.new (id uuid primary key, legacy_id bigint not null unique, price money);
    alter table public.new owner to postgres`);
  await test.target.admin.unsafe(workerGrants([entity]));
  const readerIs = async (locale: string) => {
    await source.admin.unsafe(`alter database ${new URL(source.readerUrl).pathname.slice(1)} set lc_monetary = '${locale}'`);
    await source.admin`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'isthmus_reader'`;
    await test.context.source.unsafe("select 1").catch(() => undefined);
  };
  await source.admin.unsafe(`set local lc_monetary = 'C'; insert into public.old values (1, '12.34')`);
  await test.sync();
  const landed = async () => [
    ...(await test.target.admin`select price::numeric::text as price from public.new order by legacy_id`),
  ];
  expect(await landed()).toEqual([{ price: "12.34" }]);

  // The setting alone: no table has changed since.
  await readerIs(YEN);
  const yen = postgres(source.pg.superuserUrl(new URL(source.readerUrl).pathname.slice(1)), {
    max: 1,
    onnotice: () => undefined,
  });
  await yen.unsafe(`set lc_monetary = '${YEN}'; insert into public.old values (2, '1234')`);
  await yen.end();
  await expect(test.start()).rejects.toMatchObject({
    code: "CONTRACT_BROKEN",
    message: expect.stringContaining(`lc_monetary = ${YEN} of the source gives amounts no decimals`) as string,
    detail: { findings: [{ code: "money_decimals", entity: ENTITY, table: "old", column: "price" }] },
  });
  expect(await landed()).toEqual([{ price: "12.34" }]);

  // A role's own setting comes first; so one of our role hides the server's, and one of another role, of all roles or
  // of the database does not.
  const found = async () => {
    await source.admin`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'isthmus_reader'`;
    await test.context.source.unsafe("select 1").catch(() => undefined);
    const { findings } = await checkContract(test.context, await beginSource(test.context.target, "legacy"), { fresh: true });
    return findings.flatMap(({ code, message }) => (code.startsWith("money_") ? [[code, message.includes(YEN)]] : []));
  };
  const database = new URL(source.readerUrl).pathname.slice(1);
  await readerIs("C");
  expect(await found()).toEqual([]);
  await source.admin.unsafe(`alter system set lc_monetary = '${YEN}'`);
  await source.admin`select pg_reload_conf()`;
  // The database's own is what all its sessions have.
  expect(await found()).toEqual([]);
  await source.admin.unsafe(`alter database ${database} reset lc_monetary`);
  expect(await found()).toEqual([["money_decimals", true]]);
  for (const of of ["role isthmus_reader", `role isthmus_reader in database ${database}`]) {
    await source.admin.unsafe(`alter ${of} set lc_monetary = 'C'`);
    expect(await found(), of).toEqual([["money_locale_hidden", false]]);
    await source.admin.unsafe(`alter role all set lc_monetary = 'C'`);
    expect(await found(), of).toEqual([]);
    await source.admin.unsafe(`alter role all reset lc_monetary`);
    await source.admin.unsafe(`alter ${of} reset lc_monetary`);
  }
  await source.admin`alter system reset lc_monetary`;
  await source.admin`select pg_reload_conf()`;
  await source.admin`create role clerk`;
  await source.admin`create database elsewhere`;
  expect(await found()).toEqual([]);
  for (const [of, counts] of [
    ["role clerk", true],
    [`role clerk in database ${database}`, true],
    ["role clerk in database elsewhere", false],
    ["database elsewhere", false],
    ["role all", true],
  ] as const) {
    await source.admin.unsafe(`alter ${of} set lc_monetary = '${YEN}'`);
    expect(await found(), of).toEqual(counts ? [["money_decimals", true]] : []);
    await source.admin.unsafe(`alter ${of} reset lc_monetary`);
  }

  // What the remedy says.
  await source.admin.unsafe(`set local lc_monetary = '${YEN}'; alter table public.old alter column price type numeric`);
  const [kept] = await source.admin`select price::text as price from public.old where id = 2`;
  expect(kept).toEqual({ price: "1234" });
  await readerIs("C");
});

it("a locale that the server no longer has pauses the entities with amounts alone", async () => {
  const entities = ["priced", "plain"].map((name) =>
    entityOf({
      name,
      source: `old_${name}`,
      target: `new_${name}`,
      columns: { value: { type: name === "priced" ? "money" : "text" } },
    }),
  );
  await using test = await createPipeline({ entities });
  for (const [name, type] of [
    ["priced", "money"],
    ["plain", "text"],
  ]) {
    await test.source.admin.unsafe(`
      create table public.old_${name} (id bigint primary key, value ${type});
      grant select on public.old_${name} to isthmus_reader;
      insert into public.old_${name} values (1, '1')`);
    await test.target.admin.unsafe(`
      create table public.new_${name} (id uuid primary key, legacy_id bigint not null unique, value ${type});
      alter table public.new_${name} owner to postgres`);
  }
  await test.target.admin.unsafe(workerGrants(entities));
  // As after an update of the system: nobody can name such a locale while it is missing.
  await test.source.admin`
    insert into pg_db_role_setting (setdatabase, setrole, setconfig)
    select oid, 0, '{lc_monetary=xx_XX.utf8}' from pg_database where datname = current_database()`;
  const { paused } = await test.sync();
  expect(paused).toMatchObject([
    { entity: "priced", findings: [{ code: "money_decimals", table: "old_priced", column: "value" }] },
  ]);
  expect(JSON.stringify(paused)).toContain("xx_XX.utf8");
});

/** Types that hold amounts, each with a value; both sides have them. */
const HOLDING = {
  plain: { type: "money", value: "1.25" },
  list: { type: "money[]", value: "{1.25,NULL}" },
  domained: { type: "public.outer_sum", value: "1.25" },
  listed: { type: "public.sums", value: "{1.25}" },
  of_domains: { type: "public.outer_sum[]", value: "{1.25}" },
  composed: { type: "public.priced", value: "(1.25,a)" },
  deep: { type: "public.offer[]", value: '{"(\\"{\\"\\"(1.25,a)\\"\\"}\\")"}' },
  ranged: { type: "public.money_range", value: "[1.25,2.50)" },
} as const;
const FREE = { words: { type: "public.label", value: "a" }, pair: { type: "public.labelled", value: "(a,1)" } } as const;

it("amounts are known behind domains, in arrays and in composite types, on either side, and land", async () => {
  const all = Object.entries({ ...HOLDING, ...FREE });
  const entities = all.map(([name, { type }]) =>
    entityOf({ name, source: `old_${name}`, target: `new_${name}`, columns: { value: { type } }, computed: true }),
  );
  await using test = await createPipeline({ entities });
  for (const side of ["source", "target"] as const) {
    await test[side].admin
      .unsafe(
        `create domain public.inner_sum as money; create domain public.outer_sum as public.inner_sum;
         create domain public.sums as money[]; create type public.priced as (price public.outer_sum, note text);
         create type public.offer as (prices public.priced[]); create type public.money_range as range (subtype = money);
         create domain public.inner_label as text; create domain public.label as public.inner_label; create type public.labelled as (note public.label, n integer)`,
      )
      .simple();
    for (const [name, { type, value }] of all) {
      await test[side].admin.unsafe(
        side === "source"
          ? `create table public.old_${name} (id bigint primary key, value ${type}); grant select on public.old_${name} to isthmus_reader;
             insert into public.old_${name} values (1, '${value}')`
          : `create table public.new_${name} (id uuid primary key, legacy_id bigint not null unique, value ${type}); alter table public.new_${name} owner to postgres`,
      );
    }
  }
  await test.target.admin.unsafe(workerGrants(entities));
  await test.sync();
  for (const [name, { value, type }] of all) {
    expect(await test.live(name), name).toEqual([]);
    const [row] = await test.target.admin.unsafe<{ same: boolean }[]>(
      `select value::text = ('${value}'::${type})::text as same from public.new_${name}`,
    );
    expect(row, name).toEqual({ same: true });
  }
  for (const side of ["source", "target"] as const) {
    const { admin } = test[side];
    await admin`
      insert into pg_db_role_setting (setdatabase, setrole, setconfig)
      select oid, 0, '{lc_monetary=xx_XX.utf8}' from pg_database where datname = current_database()`;
    const { findings } = await checkContract(test.context, await beginSource(test.context.target, "legacy"), { fresh: true });
    expect(
      findings.filter(({ code }) => code === "money_decimals").map(({ entity }) => entity),
      side,
    ).toEqual(Object.keys(HOLDING));
    await admin`delete from pg_db_role_setting where setdatabase = (select oid from pg_database where datname = current_database())`;
  }
});
