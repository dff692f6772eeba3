import { expect, it } from "vitest";
import { connect, type Transaction } from "../shared/db/connect.ts";
import { inTransaction, query, queryOne } from "../shared/db/query.ts";
import { createTestTarget } from "./support/databases.ts";
import { clearSocket } from "./support/sockets.ts";
import { testServer } from "./support/servers.ts";
import { createWire } from "./support/wire.ts";

const CONNECTION = {
  side: "target",
  tls: "disable",
  idleTimeoutSeconds: 5,
  connectTimeoutSeconds: 5,
  applicationName: "test",
  socket: clearSocket,
} as const;

it("a statement that failed after it had sent rows leaves the rows of the next one whole", async () => {
  await using target = await createTestTarget();
  const sql = connect({ ...CONNECTION, url: target.superuserUrl, poolSize: 1 });
  const fail = () => expect(query(sql, "target", "select 1 / (4 - i) from generate_series(1, 9) i")).rejects.toThrow();
  await fail();
  expect([...(await query(sql, "target", "select i from generate_series(1, 2) i"))]).toEqual([{ i: 1 }, { i: 2 }]);
  await fail();
  expect(await queryOne(sql, "target", "select 7 as i")).toEqual({ i: 7 });
  await fail();
  expect(await query(sql, "target", "select where false")).toHaveLength(0);
  await sql.end();
});

it.each([
  { server: "away", says: undefined, error: /unavailable|reach/i },
  { server: "full", says: { code: "53300", message: "sorry, too many clients already" }, error: /SQLSTATE 53300/ },
  { server: "starting", says: { code: "57P03", message: "the database system is starting up" }, error: /SQLSTATE 57P03/ },
])("after a statement that was lost, a server that is $server fails the next one at once, until it serves again", async (way) => {
  await using target = await createTestTarget();
  const { port } = await testServer();
  await using wire = await createWire(port);
  const sql = connect({ ...CONNECTION, url: target.superuserUrl.replace(`:${port}/`, `:${wire.port}/`), poolSize: 2 });
  const ask = (seconds = 0) => query(sql, "target", "select pg_sleep($1::text::float8)", [String(seconds)]);
  await Promise.all([ask(), ask()]);
  const lost = expect(Promise.all([ask(30), ask(30)])).rejects.toThrow();
  await new Promise((sent) => setTimeout(sent, 300));
  await wire.cut(way.says);
  await lost;
  for (let times = 0; times < 3; times++) {
    const began = performance.now();
    await expect(ask()).rejects.toThrow(way.error);
    expect(performance.now() - began).toBeLessThan(2_000);
  }
  await wire.mend();
  expect(await ask()).toHaveLength(1);
  await sql.end();
});

it("what a server says when it ends a session is the error of the statement that was lost", async () => {
  await using target = await createTestTarget();
  const sql = connect({ ...CONNECTION, url: target.superuserUrl, poolSize: 1 });
  const lost = query(sql, "target", "select pg_sleep(30)");
  lost.catch(() => undefined);
  for (let ended = 0; ended === 0;) {
    ended = (
      await target.admin`select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(30)' and state = 'active'`
    ).length;
  }
  await expect(lost).rejects.toThrow("SQLSTATE 57P01");
  expect(await query(sql, "target", "select 1")).toHaveLength(1);
  await sql.end();
});

it("however many statements run at a time, a pool opens as many connections as it has", async () => {
  await using target = await createTestTarget();
  const sql = connect({ ...CONNECTION, url: target.superuserUrl, poolSize: 2 });
  await Promise.all(Array.from({ length: 10 }, () => query(sql, "target", "select pg_sleep(0.05)")));
  await sql.begin((tx) => query(tx, "target", "select 1"));
  const open = await target.admin`select from pg_stat_activity where datname = ${target.name} and application_name = 'test'`;
  expect(open).toHaveLength(2);
  await sql.end();
});

it.each([
  { then: "asks for more", next: (tx: Transaction) => query(tx, "target", "select 2") },
  { then: "is done", next: () => Promise.resolve([]) },
  { then: "fails", next: () => Promise.reject(new Error("of this test")) },
])("a transaction whose connection is lost while its work is elsewhere, and $then, fails alone", async ({ next }) => {
  await using target = await createTestTarget();
  const { port } = await testServer();
  await using wire = await createWire(port);
  const sql = connect({ ...CONNECTION, url: target.superuserUrl.replace(`:${port}/`, `:${wire.port}/`), poolSize: 1 });
  const elsewhere = inTransaction(sql, "target", async (tx) => {
    await query(tx, "target", "select 1");
    // Nobody answers there, so that it takes its time to learn why the connection was lost.
    await wire.cut();
    await new Promise((noticed) => setTimeout(noticed, 50));
    return next(tx);
  });
  await expect(elsewhere).rejects.toMatchObject({ code: "TARGET_UNAVAILABLE" });
  await wire.mend();
  expect(await query(sql, "target", "select 1")).toHaveLength(1);
  await sql.end();
});

it.each([
  { why: "it was idle for too long", code: "TARGET_LIMIT", sqlstate: "25P03", end: undefined },
  { why: "an operator ends its session", code: "TARGET_UNAVAILABLE", sqlstate: "57P01", end: "select pg_terminate_backend($1)" },
])("a transaction that the server ends between two statements, because $why, says so", async ({ code, sqlstate, end }) => {
  await using target = await createTestTarget();
  const sql = connect({ ...CONNECTION, url: target.superuserUrl, poolSize: 1 });
  const ended = inTransaction(sql, "target", async (tx) => {
    const [row] = await query<{ pid: number }>(tx, "target", "select pg_backend_pid() as pid");
    if (end === undefined) await query(tx, "target", "set local idle_in_transaction_session_timeout = '50ms'");
    else await target.admin.unsafe(end, [row?.pid ?? 0]);
    await new Promise((noticed) => setTimeout(noticed, 300));
    return query(tx, "target", "select 2");
  });
  await expect(ended).rejects.toMatchObject({ code, detail: { sqlstate } });
  await sql.end();
});
