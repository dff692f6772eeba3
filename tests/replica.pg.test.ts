import postgres, { type ReservedSql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connect, type Sql } from "../shared/db/connect.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { offices as officeEntity } from "../clinic/entities/offices.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import type { IsthmusError } from "../shared/errors.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import type { Context } from "../shared/context.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import { digestReport, hideFromXmin, NONE_STRAYED } from "./support/history-target.ts";
import { createSeeds } from "./support/legacy-seeds.ts";
import { createReplicatedSource, until, type ReplicatedSource } from "./support/replica.ts";

// The source is a role that may only read, on a physical replica, where nobody may create anything.

describe("a source on which nothing may be created", () => {
  let source: ReplicatedSource;
  let test: InProcess;
  let session: ReservedSql;

  beforeAll(async () => {
    source = await createReplicatedSource();
    test = await createInProcess({ env: { SOURCE_DB_URL: source.readerUrl }, entities: ENTITIES });
    await test.target.admin.unsafe(workerGrants(ENTITIES));
    session = await source.onPrimary.reserve();
  });
  afterAll(async () => {
    session.release();
    await test[Symbol.asyncDispose]();
    await source[Symbol.asyncDispose]();
  });

  const offices = { entities: ["offices"] };
  const insert = (id: number, name: string) =>
    `insert into public.dispatch_office (id, name, valid, emails) values (${id}, '${name}', true, true)`;
  const rename = (id: number, name: string) => `update public.dispatch_office set name = '${name}' where id = ${id}`;
  const legacy = (statement: string) => source.onPrimary.unsafe(statement);
  const sync = async (capture: "auto" | "digest" = "auto") => {
    await source.caughtUp();
    return test.sync({ ...offices, capture });
  };
  const namesOf = async (sql: Sql, table: string, key: string) =>
    Object.fromEntries(
      (
        await sql.unsafe<{ id: number; name: string }[]>(`select ${key}::integer as id, name from public.${table} order by 1`)
      ).map(({ id, name }) => [id, name]),
    );
  const landed = () => namesOf(test.target.admin, "offices", "legacy_office_id");
  /** Both sides agree, but for records that were deleted in the source and are still there. */
  async function agreesBut(deleted: readonly number[] = []): Promise<void> {
    const all = await landed();
    const rest = Object.fromEntries(Object.entries(all).filter(([id]) => !deleted.includes(Number(id))));
    expect(Object.keys(all).length - Object.keys(rest).length).toBe(deleted.length);
    expect(rest).toEqual(await namesOf(source.onStandby, "dispatch_office", "id"));
  }

  it("is a replica, where the role reads and can do nothing else", async () => {
    const reader = connect({ ...CONNECTION, url: source.readerUrl });
    const refused = async (statement: string) =>
      reader.unsafe(statement).then(
        () => "done",
        (error: unknown) => (error as { code: string }).code,
      );
    const [node] = await reader.unsafe<{ replica: boolean }[]>("select pg_is_in_recovery() as replica");
    expect(node?.replica).toBe(true);
    for (const statement of ["create temp table t (id integer)", insert(1, "one"), "create table public.t (id integer)"]) {
      expect(await refused(statement), statement).toBe("25006");
    }
    await reader.end();
  });

  it("inserts and updates are found", async () => {
    await legacy(insert(1, "one"));
    await legacy(insert(2, "two"));
    await sync();
    await legacy(rename(1, "one, renamed"));
    await legacy(insert(3, "three"));
    const { chains } = await sync();
    expect(chains).toMatchObject([{ entity: "offices", capture: "xmin" }]);
    await agreesBut();
    expect(await landed()).toEqual({ 1: "one, renamed", 2: "two", 3: "three" });
  });

  it("what a transaction wrote that was open across two executions is found after its commit, savepoints included", async () => {
    await session.unsafe("begin");
    await session.unsafe(rename(2, "two, late"));
    await session.unsafe("savepoint a");
    await session.unsafe(insert(4, "four, in a savepoint"));
    await session.unsafe("savepoint b");
    await session.unsafe(rename(3, "rolled back"));
    await session.unsafe("rollback to savepoint b");
    await session.unsafe("release savepoint a");
    await legacy(insert(5, "five"));
    await sync();
    await legacy(rename(5, "five, renamed"));
    await sync();
    expect(await landed()).toEqual({ 1: "one, renamed", 2: "two", 3: "three", 5: "five, renamed" });
    await session.unsafe("commit");
    await sync();
    await agreesBut();
    expect(await landed()).toMatchObject({ 2: "two, late", 4: "four, in a savepoint" });
  });

  it("so is what a prepared transaction wrote, across a restart of the replica", async () => {
    await session.unsafe("begin");
    await session.unsafe(rename(3, "three, prepared"));
    await session.unsafe("prepare transaction 'isthmus'");
    await legacy(insert(6, "six"));
    await sync();
    await source.standby.stop();
    await source.standby.restart();
    await legacy(insert(7, "seven"));
    await sync();
    expect(await landed()).toMatchObject({ 3: "three", 6: "six", 7: "seven" });
    await legacy("commit prepared 'isthmus'");
    await sync();
    await agreesBut();
  });

  it("deletes are found by a digest; a re-created key keeps its id, whether its delete was seen or not", async () => {
    const id = async () =>
      (await test.target.admin<{ id: string }[]>`select id from public.offices where legacy_office_id = 7`)[0]?.id;
    const before = await id();
    await legacy("delete from public.dispatch_office where id in (6, 7)");
    await sync();
    await agreesBut([6, 7]);
    await legacy(insert(7, "seven, again"));
    await sync();
    await agreesBut([6]);
    expect(await id()).toBe(before);
    await sync("digest");
    await agreesBut();
    await legacy("delete from public.dispatch_office where id = 7");
    await sync("digest");
    await agreesBut();
    expect(await id()).toBeUndefined();
    await legacy(insert(7, "seven, once more"));
    await sync();
    await agreesBut();
    expect(await id()).toBe(before);
  });

  it("what a transaction did that was open across two digests is found by the next, by nothing but hashes", async () => {
    await session.unsafe("begin");
    await session.unsafe(rename(5, "five, late"));
    await session.unsafe("savepoint a");
    await session.unsafe("delete from public.dispatch_office where id = 6; delete from public.dispatch_office where id = 4");
    await session.unsafe(insert(6, "six, late"));
    await legacy(rename(2, "two, meanwhile"));
    await sync("digest");
    await sync("digest");
    expect(await landed()).toMatchObject({ 2: "two, meanwhile", 4: "four, in a savepoint", 5: "five, renamed" });
    await session.unsafe("commit");
    await source.caughtUp();
    await hideFromXmin(test);
    expect((await sync()).chains).toEqual([]);
    const { execution } = await sync("digest");
    expect(await digestReport(test, execution)).toEqual({
      missing: ["office 6"],
      changed: ["office 5"],
      surplus: ["office 4"],
      target_deleted: [],
      edited: [],
      ...NONE_STRAYED,
    });
    await agreesBut();
  });

  it("a replica that lags syncs what it has, and loses nothing of the rest", async () => {
    await legacy(insert(8, "eight"));
    await source.caughtUp();
    await source.pause();
    await legacy(insert(9, "nine"));
    await legacy(rename(8, "eight, renamed"));
    await test.sync(offices);
    expect(await landed()).toMatchObject({ 8: "eight" });
    expect(await landed()).not.toHaveProperty("9");
    await test.sync(offices);
    await source.resume();
    await sync();
    await agreesBut();
    expect(await landed()).toMatchObject({ 8: "eight, renamed", 9: "nine" });
  });

  it("a replica that lags behind the last horizon is waited for: nothing begins, and a page is tried again", async () => {
    const primary: Context = { ...test.context, source: connect({ ...CONNECTION, url: source.primaryReaderUrl }) };
    await source.caughtUp();
    await source.pause();
    await legacy(insert(10, "ten"));
    await test.sync(offices, primary);
    const refusal = await test.start(offices).catch((error: unknown) => (error as IsthmusError).code);
    expect(refusal).toBe("SOURCE_BEHIND");

    await legacy(insert(11, "eleven"));
    await test.start(offices, primary);
    const [page] = test.queue.splice(0);
    if (!page) throw new Error("no page");
    expect(await test.run(page)).toMatchObject({ outcome: "failed", error: { code: "SOURCE_BEHIND" }, retrySeconds: 1 });
    await source.resume();
    // As the queue does when the time has come.
    expect(await test.run(page)).toMatchObject({ outcome: "committed" });
    await test.drain();
    await sync();
    await agreesBut();
    await primary.source.end();
  });

  it("a page that the replay of the primary's locks ends is tried again, and ends right", async () => {
    const family = { entities: ["offices", "profiles", "patients", "orders"] };
    const seed = createSeeds(source.onPrimary);
    await seed.user(1);
    await seed.patient(1, { userId: 20, officeId: 1 });
    await seed.instruction(1, 1);
    await source.caughtUp();
    await test.sync(family);
    await legacy("update public.dispatch_instruction set suffix = 'new' where id = 1");
    await source.caughtUp();

    const { execution } = await test.start({ entities: ["orders"] });
    await test.runJoins();
    const page = test.queue.shift();
    if (!page) throw new Error("no page");
    // The read of the page holds its first table and waits for its second; then the first is wanted by the replay.
    const [second, first] = await Promise.all([source.onPrimary.reserve(), source.onPrimary.reserve()]);
    await second.unsafe("begin; lock table public.dispatch_patient in access exclusive mode");
    await source.caughtUp();
    const ended = test.run(page);
    await until("the page waits on the replica", async () => {
      const waiting = await source.onStandby`
        select from pg_stat_activity where usename = 'isthmus_reader' and wait_event_type = 'Lock'`;
      return waiting.length > 0;
    });
    await first.unsafe("begin; lock table public.dispatch_instruction in access exclusive mode");
    await source.caughtUp();
    expect(await ended).toMatchObject({
      outcome: "failed",
      error: { code: "SOURCE_UNAVAILABLE", reason: "40001" },
      retrySeconds: 1,
    });
    for (const holder of [first, second]) {
      await holder.unsafe("commit");
      holder.release();
    }
    await source.caughtUp();
    expect(await test.run(page)).toMatchObject({ outcome: "committed" });
    await test.drain();
    const [row] = await test.target.admin<{ status: string; suffix: string }[]>`
      select (select status from public.sync_executions where id = ${execution}) as status, suffix
        from public.orders where legacy_instruction_id = 1`;
    expect(row).toEqual({ status: "succeeded", suffix: "new" });
  });

  it("a promoted replica is read in full: what only the lost primary had committed is taken back", async () => {
    const primary: Context = { ...test.context, source: connect({ ...CONNECTION, url: source.primaryReaderUrl }) };
    await source.cutOff();
    await legacy(rename(1, "one, lost"));
    await legacy(insert(12, "twelve, lost"));
    await test.sync(offices, primary);
    expect(await landed()).toMatchObject({ 1: "one, lost", 12: "twelve, lost" });
    await primary.source.end({ timeout: 0 });
    session.release();

    await source.failOver();
    const writer = postgres(source.standby.superuserUrl("legacy"), { max: 1 });
    await writer.unsafe(insert(13, "thirteen, on the new primary"));
    await writer.end();
    const { chains } = await test.sync(offices);
    expect(chains.map(({ capture }) => capture)).toContain("full");
    await agreesBut();
    expect(await landed()).toMatchObject({ 1: "one, renamed", 13: "thirteen, on the new primary" });
    // Transactions that had been read are lost: somebody is told.
    expect(await test.target.admin`select kind from public.sync_alerts where kind like 'source\_%'`).toMatchObject([
      { kind: expect.stringMatching(/^source_(restored|promoted)$/) as string },
    ]);
    expect((await test.sync(offices)).chains).toEqual([]);
  });
});

/** Records that the source no longer has go, and not by review. */
const ENTITIES: readonly Entity[] = registry.map((one) => (one.name === "offices" ? { ...officeEntity, onDelete: "hard" } : one));

const CONNECTION = {
  side: "source",
  tls: "disable",
  poolSize: 2,
  idleTimeoutSeconds: 30,
  connectTimeoutSeconds: 5,
  applicationName: "isthmus",
} as const;
