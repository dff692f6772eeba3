import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { expect, it } from "vitest";
import { queryOne } from "../shared/db/query.ts";
import { offices } from "../clinic/entities/offices.ts";
import type { PageOutcome } from "../shared/page/page-outcome.ts";
import { readerUrl, workerUrl, type TestDatabase } from "./support/databases.ts";
import { endState } from "./support/digest.ts";
import { seedOffices } from "./support/limits.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { startTransactionPooler } from "./support/transaction-pooler.ts";

const MIGRATIONS = resolve(import.meta.dirname, "../migrations");
const SQL = readdirSync(MIGRATIONS).map((file) => readFileSync(join(MIGRATIONS, file), "utf8")).join("\n"); // prettier-ignore
const named = (pattern: RegExp) => [...new Set([...SQL.matchAll(pattern)].map(([, name]) => name ?? ""))];

const TEMPORARY = named(/create temp table (\w+)/g);
const TABLES = [...named(/create table public\.(\w+)/g), "offices", "dispatch_office"];
/** As sync.prepare_statements calls what it prepares. */
const PREPARED = ["classify", "write", "reads", "writes", "vacate", "restore", "clash", "alone", "together"].flatMap((phase) =>
  Array.from({ length: 12 }, (_, at) => `isthmus_${phase}_${at + 1}`),
);

/** Settings that another client of the role may leave in a session; those that would end its own next statement come last. */
const SETTINGS: Readonly<Record<string, string>> = {
  search_path: "pg_temp, stray",
  timezone: "Asia/Tokyo",
  datestyle: "German, DMY",
  intervalstyle: "sql_standard",
  bytea_output: "escape",
  extra_float_digits: "-15",
  default_transaction_isolation: "serializable",
  default_transaction_read_only: "on",
  synchronous_commit: "off",
  "isthmus.sync": "on",
  lock_timeout: "1ms",
  // Shorter than the commit of a page takes here, longer than the statement that sets it back.
  statement_timeout: "200ms",
  transaction_timeout: "200ms",
};

/** Leaves in the one session that the pooler has for a role whatever may be left there. */
async function litter(url: string, role: string, more: Readonly<Record<string, string>> = {}): Promise<void> {
  const other = postgres(url, { max: 1, fetch_types: false, prepare: false, onnotice: () => undefined });
  const text = [
    "begin read write; reset role; reset all; set statement_timeout = 0; set transaction_timeout = 0; set search_path = public; discard temp; deallocate all",
    ...[...new Set([...TEMPORARY, ...TABLES])].map((table) => `create temp table ${table} (id integer, stray text)`),
    ...PREPARED.map((name) => `prepare ${name} as select 1`),
    `set role ${role}`,
    ...Object.entries({ ...SETTINGS, ...more }).map(
      ([name, value]) => `set ${name} = ${name === "search_path" ? value : `'${value}'`}`,
    ),
    "commit",
  ];
  await other.unsafe(text.join("; ")).simple();
  await other.end({ timeout: 1 });
}

/** Twelve offices, one of which the target refuses, so that a page goes into halves with prepared statements. */
async function fill(test: Pipeline): Promise<void> {
  await seedOffices(test, 12);
  await test.target
    .admin`alter table public.offices add constraint slow check (legacy_office_id <> 5 and pg_sleep(0.06) is not null)`;
}

/** What a statement of either side finds. */
async function settingsOf({ context }: Pipeline): Promise<unknown> {
  const names = [...Object.keys(SETTINGS).filter((name) => !/\.|^default/.test(name)), "idle_in_transaction_session_timeout"];
  const text = `select current_user::text, ${names.map((name) => `current_setting('${name}') as ${name}`).join(", ")}, current_setting('transaction_read_only') as reads`;
  return Promise.all((["source", "target"] as const).map((side) => queryOne(context[side], side, text)));
}

const env = { ISTHMUS_PAGE_SIZE: "4", ISTHMUS_PAGE_SIZE_MAX: "4", ISTHMUS_POOL_SIZE: "1", ISTHMUS_ROWS_PER_CHAIN: "6" };
const entities = [offices];
/** A plan, a first load, edits found by xmin, and a comparison. */
const REQUESTS = [{ dryRun: true }, {}, { capture: "xmin" }, { capture: "digest" }] as const;

async function through(
  test: Pipeline,
  before: () => Promise<unknown>,
  run: (test: Pipeline) => Promise<PageOutcome[]>,
): Promise<string[]> {
  const ends: string[] = [];
  for (const [at, request] of REQUESTS.entries()) {
    if (at > 1) await test.source.admin`update public.dispatch_office set city = ${`city ${at}`} where id % 3 = 0`;
    await before();
    const { execution } = await test.start({ entities: ["offices"], ...request });
    for (let pages = 0; test.queue.length > 0; pages++) {
      if (pages > 60) throw new Error("no end");
      await before();
      const failed = (await run(test)).filter(({ outcome }) => outcome === "failed" || outcome === "smaller");
      if (failed.length > 0) throw new Error(JSON.stringify(failed));
    }
    ends.push((await test.status(execution)).status);
  }
  return ends;
}

it.each([
  { name: "leaves sessions as they are", settings: {} },
  { name: "cleans them after each transaction", settings: { server_reset_query: "DISCARD ALL", server_reset_query_always: 1 } },
])("pages are unaffected by what others leave in the one session of a pooler that $name", async ({ settings }) => {
  await using direct = await createPipeline({ env, entities });
  await fill(direct);
  const one = async (test: Pipeline) => [await test.runOne()];
  const undisturbed = await through(direct, () => Promise.resolve(), one);

  await using pooler = await startTransactionPooler({ settings: { default_pool_size: 1, ...settings } });
  const pooled = (url: (db: TestDatabase) => string) => (db: TestDatabase) => pooler.through(url(db));
  await using test = await createPipeline({ env, entities, sourceUrl: pooled(readerUrl), targetUrl: pooled(workerUrl) });
  await fill(test);
  const { admin } = test.target;
  const stray = `stray_${randomBytes(4).toString("hex")}`;
  await admin.unsafe(`create role ${stray}; grant ${stray} to isthmus_worker, isthmus_reader`).simple();
  try {
    const urls = [pooler.through(readerUrl(test.source)), pooler.through(workerUrl(test.target))];
    const litterBoth = () => Promise.all(urls.map((url) => litter(url, stray)));
    // Two functions at a time, in one session on either side.
    const two = ({ queue }: Pipeline) => Promise.all(queue.splice(0, 2).map((message) => test.run(message)));
    // A transaction that has failed is idle until its end has arrived, under whatever limit the session has: pages
    // would only be tried again.
    await Promise.all(urls.map((url) => litter(url, stray, { idle_in_transaction_session_timeout: "1ms" })));
    expect(await settingsOf(test)).toEqual(await settingsOf(direct));
    expect(await through(test, litterBoth, two)).toEqual(undisturbed);
  } finally {
    await admin.unsafe(`drop role ${stray}`);
  }
  expect(undisturbed).toEqual(REQUESTS.map(() => "succeeded"));
  expect(await endState(test.target.admin)).toEqual(await endState(direct.target.admin));
  expect((await test.live("offices")).map(({ id }) => id)).toEqual([5]);
});
