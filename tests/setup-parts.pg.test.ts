import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import postgres, { type TransactionSql } from "postgres";
import { applySchema } from "../cli/setup/apply-schema.ts";
import { withSetup, type Setup } from "../cli/setup/context.ts";
import { deployFunctions } from "../cli/setup/deploy-functions.ts";
import { saveAndDrop } from "../cli/setup/drop-ours.ts";
import { grantRights } from "../cli/setup/grant-rights.ts";
import { abandoningWhatIsLost } from "../cli/setup/lost-transaction.ts";
import { managementApi } from "../cli/setup/management-api.ts";
import { withoutTicks } from "../cli/setup/schedule-ticks.ts";
import { scramVerifier } from "../cli/setup/scram.ts";
import { setSecrets } from "../cli/setup/set-secrets.ts";
import { lookAt, perform, type Step } from "../cli/setup/step.ts";
import { createTestTarget, ownerUrl, type TestDatabase } from "./support/databases.ts";
import { startFakeManagementApi } from "./support/fake-management-api.ts";
import { testServer } from "./support/servers.ts";
import { createWire } from "./support/wire.ts";
import { withoutOurs } from "./support/without-ours.ts";

const folder = mkdtempSync(join(tmpdir(), "isthmus-parts-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const filesBelow = (path: string) =>
  readdirSync(resolve(import.meta.dirname, "..", path), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(sql|ts)$/.test(name))
    .map((name) => resolve(import.meta.dirname, "..", path, name));

/** Runs the two steps that work on the database alone. */
async function run(target: TestDatabase, how: "look" | "perform", entities: readonly string[] = []): Promise<string> {
  const envFile = join(folder, `${target.name}.env`);
  writeFileSync(
    envFile,
    `SUPABASE_URL=https://aaaaaaaaaaaaaaaaaaaa.supabase.co\nSUPABASE_ACCESS_TOKEN=unused\nTARGET_OWNER_URL=${ownerUrl(target)}\n`,
  );
  let said = "";
  const terminal = {
    env: {},
    out: () => undefined,
    err: (text: string) => (said += text),
    interactive: false,
    pause: () => Promise.resolve(),
  };
  await withSetup({}, { envFile, entities }, async (setup) => {
    await (how === "look" ? lookAt : perform)([applySchema, grantRights], setup, terminal);
  });
  return said;
}

const SILENT = { env: {}, out: () => undefined, err: () => undefined, interactive: false, pause: () => Promise.resolve() };

/** Somebody is at work in the mappings for a second. */
async function lockedMappings(tx: TransactionSql): Promise<void> {
  await tx`lock table public.uuid_mappings_enhanced in access exclusive mode`;
  await new Promise((later) => setTimeout(later, 1_500));
}

describe("setup", () => {
  it("takes over what supabase db push has applied, and grants the named entities alone", async () => {
    await using target = await createTestTarget();
    await target.admin`select sync.withdraw_entity(entity_type) from public.sync_released_entities`;
    const said = await run(target, "perform", ["offices", "doctors"]);
    expect(said).toMatch(/\.\.\. +schema +take over what supabase db push has applied into our own history\n/);
    const [history] = await target.admin<{ n: number; hashed: number }[]>`
      select count(*)::int as n, count(sha256)::int as hashed from sync.installed where part = 'migration'`;
    const [pushed] = await target.admin<{ n: number }[]>`select count(*)::int as n from supabase_migrations.schema_migrations`;
    expect(history).toEqual({ n: pushed?.n, hashed: 0 });
    const released = await target.admin<
      { name: string }[]
    >`select entity_type as name from public.sync_released_entities order by 1`;
    expect(released.map(({ name }) => name)).toEqual(["doctors", "offices"]);
    const [job] = await target.admin<
      { entities: string[] }[]
    >`select configuration -> 'entities' as entities from public.sync_jobs`;
    expect([...(job?.entities ?? [])].sort()).toEqual(["doctors", "offices"]);
    // Who has named entities once need not do so again, and nobody gets rights on others in passing.
    expect(await run(target, "perform")).toMatch(/ok +schema.*\n +ok +rights +2 entities/);
    expect(await run(target, "perform", ["offices"])).toMatch(/\.\.\. +rights +have the job daily read 1 entities/);
  });

  it.each([
    { title: "a table", made: "create table public.sync_jobs (id integer)", says: /NAME_TAKEN|sync_jobs/ },
    { title: "a type", made: "create type public.conflict_type_enum as enum ('a')", says: /NAME_TAKEN|conflict_type_enum/ },
    { title: "a schema", made: "create schema sync", says: /schema named sync/ },
  ])("refuses a project whose application has $title of our name, and leaves everything as it was", async ({ made, says }) => {
    await using target = await createTestTarget();
    await withoutOurs(target);
    await target.admin.unsafe(made);
    const objects = () => target.admin`select count(*)::int as n from pg_depend`;
    const before = await objects();
    for (const how of ["look", "perform"] as const) {
      await expect(run(target, how)).rejects.toMatchObject({
        code: "NAME_TAKEN",
        message: expect.stringMatching(says) as string,
      });
      expect(await objects()).toEqual(before);
    }
    await target.admin.unsafe(made.replace(/^create (\w+) ([\w.]+).*$/, "drop $1 $2"));
    expect(await run(target, "perform")).toMatch(/ok +schema/);
  });

  it.each([
    { under: "a statement", held: (admin: TestDatabase["admin"]) => admin.begin(lockedMappings), unheld: undefined },
    {
      under: "no statement, while the work is elsewhere",
      held: undefined,
      unheld: () => new Promise((later) => setTimeout(later, 200)),
    },
  ])(
    "whose connection is lost in the middle of a transaction, under $under, says so, and ends in order",
    async ({ held, unheld }) => {
      await using target = await createTestTarget();
      const { port } = await testServer();
      await using wire = await createWire(port);
      const envFile = join(folder, `${target.name}.env`);
      const url = ownerUrl(target).replace(`:${port}/`, `:${wire.port}/`);
      writeFileSync(
        envFile,
        `SUPABASE_URL=https://aaaaaaaaaaaaaaaaaaaa.supabase.co\nSUPABASE_ACCESS_TOKEN=unused\nTARGET_OWNER_URL=${url}\n`,
      );
      const backup = join(folder, `${target.name}.csv`);
      const broken: Step<Setup> = {
        title: "schema",
        look: () => Promise.resolve({ state: "due", text: "drop it" }),
        act: ({ owner }) =>
          unheld === undefined
            ? saveAndDrop(owner, backup)
            : owner.begin(async (tx) => {
                await tx`drop table public.sync_jobs cascade`;
                await wire.cut();
                await unheld();
                await tx`select 1`;
              }),
      };
      const locked = held?.(target.admin);
      const cut =
        held === undefined
          ? undefined
          : expect
              .poll(
                () => target.admin`select from pg_stat_activity where wait_event_type = 'Lock' and datname = ${target.name}`,
                {
                  interval: 5,
                  timeout: 20_000,
                },
              )
              .toHaveLength(1)
              .then(() => wire.cut());
      const told = withSetup({}, { envFile }, (setup) => perform([broken], setup, SILENT));
      await expect(told).rejects.toMatchObject({
        code: "TARGET_UNAVAILABLE",
        message: "schema: The connection to the target (TARGET_OWNER_URL) was lost in the middle of this step.",
      });
      await Promise.all([cut, locked]);
      // The driver writes what it still has at the next turn: an error of that would end the process, and this test.
      await new Promise((later) => setTimeout(later, 50));
      await wire.mend();
      expect(await target.admin`select to_regclass('public.sync_jobs') as jobs`).toMatchObject([{ jobs: "sync_jobs" }]);
    },
  );

  it("whose work loses another connection ends with that error, and holds nothing any more", async () => {
    await using target = await createTestTarget();
    const sql = abandoningWhatIsLost((onclose) => postgres(ownerUrl(target), { max: 1, fetch_types: false, onclose }));
    const gone = Object.assign(new Error("another connection is gone"), { code: "CONNECTION_CLOSED" });
    const work = sql.begin(async (tx) => {
      await tx`select pg_advisory_xact_lock(1234567)`;
      throw gone;
    });
    await expect(work).rejects.toBe(gone);
    expect(await target.admin`select pg_try_advisory_xact_lock(1234567) as free`).toEqual([{ free: true }]);
    await sql.end();
  });

  it("whose work loses another connection names no connection that stands", async () => {
    await using target = await createTestTarget();
    const owner = abandoningWhatIsLost((onclose) => postgres(ownerUrl(target), { max: 1, fetch_types: false, onclose }));
    const gone = () => Object.assign(new Error("write ECONNRESET api.example.com"), { code: "ECONNRESET" });
    const within: Step<null> = {
      title: "functions",
      look: () => owner.begin(() => Promise.reject(gone())),
    };
    const without: Step<null> = { title: "secrets", look: () => Promise.reject(gone()) };
    for (const step of [within, without]) {
      await expect(lookAt([step], null, SILENT)).rejects.toMatchObject({
        code: "FAILED",
        message: `${step.title}: write ECONNRESET api.example.com`,
        remedy: expect.stringContaining("goes on there") as string,
      });
    }
    await owner.end();
  });

  it("holds ticks back for as long as its work takes, whatever time limits the owner's role has", async () => {
    await using target = await createTestTarget();
    for (const limit of ["statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"])
      await target.admin.unsafe(`alter role postgres in database ${target.name} set ${limit} = '500ms'`);
    const open = () => postgres(ownerUrl(target), { max: 1, fetch_types: false, onnotice: () => undefined });
    const owner = open();
    const setup = { owner, anotherOwner: open } as never;
    const free = async () => {
      const [row] = await target.admin<{ free: boolean }[]>`select pg_try_advisory_xact_lock(4973118223) as free`;
      return row?.free;
    };
    await withoutTicks(setup, async () => {
      await new Promise((later) => setTimeout(later, 1_200));
      expect(await free()).toBe(false);
    });
    expect(await free()).toBe(true);
    await owner.end({ timeout: 1 });
  });

  it("refuses a file of secrets in the repository", async () => {
    const envFile = resolve(import.meta.dirname, "../isthmus.env");
    await expect(withSetup({}, { envFile }, () => Promise.resolve())).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    expect(existsSync(envFile)).toBe(false);
  });

  it("sets secrets as they are, whatever is in them", async () => {
    await using api = await startFakeManagementApi();
    const secrets = {
      SOURCE_DB_CA: "-----BEGIN\na/b+c=\n-----END\n",
      QSTASH_TOKEN: `it's "$HOME" \\n and \\ #1`,
      SOURCE_NAME: " x ",
    };
    const management = managementApi(api.projectRef, api.env["SUPABASE_ACCESS_TOKEN"] ?? "", api.url);
    await management.setSecrets(secrets);
    expect(Object.fromEntries(api.secrets)).toEqual(secrets);
    await management.unsetSecrets(["SOURCE_NAME"]);
    expect([...api.secrets.keys()]).toEqual(["SOURCE_DB_CA", "QSTASH_TOKEN"]);
  });

  it.each([
    {
      title: "the owner of another project's database",
      lines: "TARGET_OWNER_URL=postgres://postgres.bbbbbbbbbbbbbbbbbbbb:x@aws-0-eu.pooler.supabase.com:5432/postgres",
    },
    {
      title: "another project's database, directly",
      lines: "TARGET_OWNER_URL=postgres://postgres:x@db.bbbbbbbbbbbbbbbbbbbb.supabase.co:5432/postgres",
    },
    {
      title: "the worker of another project",
      lines:
        "TARGET_OWNER_URL=postgres://postgres@127.0.0.1:1/x\nTARGET_DB_URL=postgres://isthmus_worker.bbbbbbbbbbbbbbbbbbbb:x@aws-0-eu.pooler.supabase.com:6543/postgres",
    },
    {
      title: "an exported key that the file does not have",
      lines: "TARGET_OWNER_URL=postgres://postgres@127.0.0.1:1/x",
      given: { ISTHMUS_API_KEY: "sb_secret_other" },
    },
    {
      title: "an exported note of what setup has made, which the file does not have",
      lines: "TARGET_OWNER_URL=postgres://postgres@127.0.0.1:1/x",
      given: { ISTHMUS_MADE_SECRETS: "PAYMENT_KEY" },
    },
    {
      title: "an exported source, which the file does not have",
      lines: "TARGET_OWNER_URL=postgres://postgres@127.0.0.1:1/x",
      given: { SOURCE_DB_URL: "postgres://postgres@127.0.0.1:1/x" },
    },
  ])("does nothing with $title", async ({ lines, given = {} }) => {
    const envFile = join(folder, "strangers.env");
    writeFileSync(envFile, `SUPABASE_URL=https://aaaaaaaaaaaaaaaaaaaa.supabase.co\nSUPABASE_ACCESS_TOKEN=unused\n${lines}\n`);
    let begun = false;
    const work = () => Promise.resolve((begun = true));
    await expect(withSetup(given, { envFile }, work)).rejects.toMatchObject({ code: "CONFIG_INVALID", exitCode: 2 });
    expect(begun).toBe(false);
  });

  it("takes nobody's function or secret for its own while nothing of ours is in the project", async () => {
    await using target = await createTestTarget();
    await withoutOurs(target);
    const owner = postgres(ownerUrl(target), { max: 1, fetch_types: false });
    const env = () => ({ QSTASH_TOKEN: "ours", SOURCE_DB_URL: "postgres://a/b", TARGET_DB_URL: "postgres://a/b" });
    const api = {
      functions: () => Promise.resolve([{ slug: "sync-page", status: "ACTIVE" }]),
      secrets: () => Promise.resolve(new Map([["QSTASH_TOKEN", "0".repeat(64)]])),
    };
    const setup = { owner, env, api } as never;
    await expect(deployFunctions.look(setup)).rejects.toMatchObject({
      code: "NAME_TAKEN",
      message: expect.stringMatching(/sync-page/) as string,
    });
    await expect(setSecrets.look(setup)).rejects.toMatchObject({
      code: "NAME_TAKEN",
      message: expect.stringMatching(/QSTASH_TOKEN/) as string,
    });
    await owner.end();
  });

  it("gives roles to a role by its name: of the keyword current_user supautils makes a crash", () => {
    const sources = [...filesBelow("supabase/schemas"), ...filesBelow("migrations"), ...filesBelow("cli/setup")].map((path) =>
      readFileSync(path, "utf8"),
    );
    expect(sources.length).toBeGreaterThan(50);
    for (const text of sources) expect(text).not.toMatch(/grant [\w${}]+ to (current_user|session_user|current_role)/i);
  });

  it("reckons of a password what PostgreSQL itself does", async () => {
    await using target = await createTestTarget();
    const role = `scram_${target.name}`;
    try {
      await target.admin.unsafe(`set password_encryption = 'scram-sha-256'; create role ${role} password 'pencil-and-paper'`);
      const [row] = await target.admin<
        { verifier: string }[]
      >`select rolpassword as verifier from pg_authid where rolname = ${role}`;
      const salt = Buffer.from(/:([^$]+)\$/.exec(row?.verifier ?? "")?.[1] ?? "", "base64");
      expect(scramVerifier("pencil-and-paper", salt)).toBe(row?.verifier);
    } finally {
      await target.admin.unsafe(`drop role ${role}`);
    }
  });
});

it("the README and the guide name the command", () => {
  for (const page of ["README.md", "docs/deployment.md"])
    expect(readFileSync(resolve(import.meta.dirname, "..", page), "utf8")).toMatch(/npm run sync -- setup/);
});
