import { randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import { expect, it } from "vitest";
import { startRedis } from "../local/redis/server.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { offices } from "../clinic/entities/offices.ts";
import { checkInstallation } from "../shared/contract/check.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import type { SelectionRequest } from "../shared/plan/plan-selection.ts";
import { tick } from "../shared/tick/tick.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const entities: Entity[] = [{ ...offices, onDelete: "hard" }];

const side = async (sql: Sql, table: string, key: string) =>
  (await sql.unsafe<{ id: number; name: string }[]>(`select ${key}::integer as id, name from public.${table} order by 1`)).map(
    ({ id, name }) => [id, name],
  );
const inStep = async (test: Pipeline) => {
  expect(await side(test.target.admin, "offices", "legacy_office_id")).toEqual(
    await side(test.source.admin, "dispatch_office", "id"),
  );
};
const alerts = async (test: Pipeline) => [
  ...(await test.target.admin`select severity, occurrences from public.sync_alerts where kind = 'target_restored'`),
];
const tables = async (sql: Sql) =>
  (
    await sql<
      { name: string }[]
    >`select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'`
  ).map(({ name }) => name);

/** A run, a copy of everything the target holds, and more changes and deletes that are synced after it. */
async function made(env: Record<string, string> = {}): Promise<Pipeline> {
  const test = await createPipeline({ entities, env });
  await test.target.admin.unsafe(workerGrants(entities));
  for (const id of [1, 2, 3, 4]) await test.seed.office(id, { name: `office ${id}` });
  await test.sync();
  return test;
}
async function moveOn(test: Pipeline): Promise<void> {
  await test.source.admin`update public.dispatch_office set name = 'renamed' where id = 2`;
  await test.source.admin`delete from public.dispatch_office where id = 3`;
  await test.seed.office(5, { name: "office 5" });
  await test.sync({ capture: "digest" });
  await inStep(test);
}

/** Copies every table aside. @returns what puts these rows back, as a restored dump does. */
async function backUp(test: Pipeline): Promise<() => Promise<void>> {
  const sql = test.target.admin;
  await sql.unsafe("create schema backup");
  const all = await tables(sql);
  for (const name of all) await sql.unsafe(`create table backup."${name}" as table public."${name}"`);
  return () =>
    sql.begin(async (tx) => {
      await tx.unsafe("set local session_replication_role = replica");
      await tx.unsafe(`truncate ${all.map((name) => `public."${name}"`).join(", ")}`);
      for (const name of all) {
        const columns = await tx<{ name: string }[]>`
          select attname as name from pg_attribute where attrelid = ${`public."${name}"`}::regclass and attnum > 0 and not attisdropped and attgenerated = ''`;
        const list = columns.map((column) => `"${column.name}"`).join(", ");
        await tx.unsafe(`insert into public."${name}" (${list}) overriding system value select ${list} from backup."${name}"`);
      }
    });
}
const accept = (test: Pipeline) =>
  test.target.admin`update public.sync_identities set accepted_by = 'somebody' where accepted_at is null`;
const signs = async (test: Pipeline) =>
  (
    await test.target.admin<{ identity: string }[]>`
      select identity from public.sync_identities where side = 'target_state' and accepted_at is null order by 1`
  ).map(({ identity }) => identity.replaceAll(/[0-9a-f-]{36}|\d+/g, "?"));

/** Nobody begins anything there, the tick sends nothing, and the rows stay as they were put back. */
async function isAsked(test: Pipeline, expected: readonly string[]): Promise<void> {
  const before = await side(test.target.admin, "offices", "legacy_office_id");
  const requests: readonly Partial<SelectionRequest>[] = [
    {},
    { dryRun: true },
    { legacyIds: { offices: ["1"] } },
    { adopt: true },
  ];
  for (const request of requests) {
    await expect(test.start(request)).rejects.toMatchObject({
      code: "TARGET_UNKNOWN",
      message: expect.stringContaining("put back to an older state") as string,
    });
  }
  expect(await tick(test.context)).toEqual({ started: [], resent: 0, stopped: [], released: [] });
  expect((await checkInstallation(test.context)).findings).toMatchObject(expected.map(() => ({ code: "target_state_unknown" })));
  expect(await signs(test)).toEqual(expected);
  expect(await side(test.target.admin, "offices", "legacy_office_id")).toEqual(before);
  expect(await alerts(test)).toEqual([]);
}
/** After a person's word both sides are compared, once. */
async function isHealed(test: Pipeline): Promise<void> {
  await accept(test);
  const begun = await test.sync();
  expect(begun.chains.map(({ capture }) => capture)).toContain("digest");
  await inStep(test);
  expect(await alerts(test)).toEqual([{ severity: "critical", occurrences: 1 }]);
  expect(
    (await test.target.admin`select from public.sync_alerts where kind = 'target_state_unknown' and closed_at is null`).length,
  ).toBe(0);
  expect((await test.sync()).chains).toEqual([]);
  expect(await alerts(test)).toEqual([{ severity: "critical", occurrences: 1 }]);
}
const REMEMBERED = "the cache remembers execution ?, and the last one here is ?";
const REWRITTEN = "rows were written again by transaction ?";

it("a target whose data was put back under the same identity is asked about, by what cache and rows remember, and healed once accepted", async () => {
  const redis = await startRedis({ prefer: "built-in" });
  await using test = await made({ UPSTASH_REDIS_REST_URL: redis.url, UPSTASH_REDIS_REST_TOKEN: redis.token });
  const putBack = await backUp(test);
  await moveOn(test);
  await putBack();
  expect(await side(test.target.admin, "offices", "legacy_office_id")).toHaveLength(4);
  await isAsked(test, [REWRITTEN, REMEMBERED]);
  await isHealed(test);
  await redis.stop();
});

it("rows that were put back are asked about without a cache, each time", async () => {
  await using test = await made();
  const putBack = await backUp(test);
  await moveOn(test);
  await putBack();
  await isAsked(test, [REWRITTEN]);
  await isHealed(test);
  await test.target.admin`update public.sync_alerts set closed_at = now()`;
  await putBack();
  await expect(test.start()).rejects.toMatchObject({ code: "TARGET_UNKNOWN" });
  expect(await signs(test)).toEqual([REWRITTEN]);
});

it("a target on another timeline is asked about: a restore to a point in time, or a failover", async () => {
  await using test = await made();
  await moveOn(test);
  await test.target.admin`update public.sync_sources set target_identity = replace(target_identity, '/1/', '/7/')`;
  await isAsked(test, ["timeline ? follows timeline ?"]);
  await isHealed(test);
});

it.each(["a later page of a chain", "a page of another chain"])(
  "%s that the target does not know tells of a restore",
  async (which) => {
    await using test = await made();
    await test.source.admin`update public.dispatch_office set name = 'renamed' where id = 2`;
    const { execution } = await test.start();
    const [message] = test.queue.splice(0);
    if (!message) throw new Error("no page");
    const ahead = which.startsWith("a later") ? { ...message, page: message.page + 1 } : { ...message, chain: randomUUID() };
    expect((await test.run(ahead)).outcome).toBe(which.startsWith("a later") ? "stale" : "closed");
    await test.run(ahead);
    // What the target itself would go on with waits, too.
    await expect(test.run(message)).rejects.toMatchObject({ code: "TARGET_UNKNOWN" });
    await test.target.admin`update public.sync_executions set status = 'cancelled' where id = ${execution}`;
    await isAsked(test, ["page ? of chain ? was sent, and is not known here"]);
    await isHealed(test);
  },
);

it("a page of another chain tells nothing where no execution has begun", async () => {
  await using test = await createPipeline({ entities });
  await test.target.admin.unsafe(workerGrants(entities));
  await test.run({ chain: randomUUID(), page: 1, execution: randomUUID() });
  await test.seed.office(1);
  await test.sync();
  await inStep(test);
});

it("another database with the old state in its place is recognised by its identity, without a cache, and healed once somebody has accepted it", async () => {
  await using test = await made();
  const { name } = test.target;
  const server = (await import("postgres")).default(test.target.url("supabase_admin").replace(name, "postgres"), { max: 1 });
  const alone = async (statement: string) => {
    await server`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name} and pid <> pg_backend_pid()`;
    await server.unsafe(statement);
  };
  try {
    await alone(`create database "${name}_backup" template "${name}" owner postgres`);
    await moveOn(test);
    await alone(`drop database "${name}" with (force)`);
    await server.unsafe(`alter database "${name}_backup" rename to "${name}"`);
    await expect(test.start()).rejects.toMatchObject({ code: "TARGET_UNKNOWN" });
    await test.target.admin`update public.sync_identities set accepted_by = 'somebody' where accepted_at is null`;
    const begun = await test.sync();
    expect(begun.chains.map(({ capture }) => capture)).toEqual(["xmin", "digest"]);
    await inStep(test);
    expect(await alerts(test)).toEqual([{ severity: "critical", occurrences: 1 }]);
    // Which transaction wrote a row says nothing of what came with the copy.
    const [source] = await test.target.admin`select written_since::text <> '0' as moved from public.sync_sources`;
    expect(source).toEqual({ moved: true });
    expect((await test.sync()).chains).toEqual([]);
  } finally {
    await server.end();
  }
});

it("a cache that remembers nonsense is not believed twice", async () => {
  const redis = await startRedis({ prefer: "built-in" });
  await using test = await made({ UPSTASH_REDIS_REST_URL: redis.url, UPSTASH_REDIS_REST_TOKEN: redis.token });
  await test.context.cache.rememberExecution(1_000_000);
  await isAsked(test, [REMEMBERED]);
  await accept(test);
  expect((await test.sync()).chains).toMatchObject([{ capture: "digest" }]);
  expect((await test.sync()).chains).toEqual([]);
  await redis.stop();
});
