import { createServer, type AddressInfo, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { connect } from "../shared/db/connect.ts";
import { query } from "../shared/db/query.ts";
import type { IsthmusError } from "../shared/errors.ts";
import type { Side } from "../shared/db/settings.ts";
import { admitTick, tick, untilBegun } from "../shared/tick/tick.ts";
import type { Context } from "../shared/context.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, type Stranger } from "./support/stranger.ts";
import { clearSocket } from "./support/sockets.ts";
import { startTlsServer, type TlsServer } from "./support/tls-server.ts";

const TABLES: Stranger = { source: "old", target: "new", columns: { name: { type: "text" } } };

const pool = { poolSize: 1, idleTimeoutSeconds: 1, connectTimeoutSeconds: 2, applicationName: "isthmus" };
const at = (url: string, side: Side = "source") => connect({ side, url, tls: "disable", socket: clearSocket, ...pool });
/** Where nobody listens. */
const nowhere = (side: Side) => at("postgres://reader:secret@127.0.0.1:1/legacy", side);

/** A server that takes connections and says nothing, as behind a firewall that swallows packets. */
async function silentServer() {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket.on("error", () => undefined))).listen(0, "127.0.0.1");
  await new Promise((ready) => server.once("listening", ready));
  const { port } = server.address() as AddressInfo;
  return {
    url: `postgres://reader:secret@127.0.0.1:${port}/legacy`,
    asked: () => sockets.length,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((closed) => server.close(closed));
    },
  };
}
async function loaded(): Promise<Pipeline> {
  const test = await createStranger(TABLES);
  await test.source.admin`insert into public.old values (1, 'x')`;
  await test.sync();
  await test.source.admin`insert into public.old values (2, 'y')`;
  return test;
}
const told = async (test: Pipeline) => [
  ...(await test.target.admin<{ kind: string; severity: string; message: string; occurrences: number }[]>`
    select kind, severity, message, occurrences from public.sync_alerts
     where closed_at is null and kind in ('source_refuses', 'page_retried') order by kind`),
];

describe("a source that refuses", () => {
  const ways: readonly {
    way: string;
    says: RegExp;
    refuse: (test: Pipeline) => Promise<Context>;
    end: (test: Pipeline) => Promise<unknown>;
  }[] = [
    {
      way: "all connections, because it allows none",
      says: /^The source refuses connections, or does not answer \(too_many_connections, SQLSTATE 53300\)\. .*ISTHMUS_POOL_SIZE/,
      refuse: async (test) => {
        const [db] = await test.source.admin<{ name: string }[]>`select current_database() as name`;
        await test.source.admin.unsafe(`alter database ${db?.name ?? ""} connection limit 0`);
        await test.source.admin`
          select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and usename = 'isthmus_reader'`;
        return test.context;
      },
      end: async (test) => {
        const [db] = await test.source.admin<{ name: string }[]>`select current_database() as name`;
        await test.source.admin.unsafe(`alter database ${db?.name ?? ""} connection limit -1`);
      },
    },
    {
      way: "because nobody listens at its address",
      says: /^The source refuses connections, or does not answer \(ECONNREFUSED\)\. .*SOURCE_DB_URL/,
      refuse: (test) => Promise.resolve({ ...test.context, source: nowhere("source") }),
      end: () => Promise.resolve(),
    },
    {
      way: "the reader's password",
      says: /^The source refuses connections, or does not answer \(credentials_refused, SQLSTATE 28P01\)\. .*is the password in the address right/,
      refuse: (test) => Promise.resolve({ ...test.context, source: at(test.source.url("isthmus_reader", "secret")) }),
      end: () => Promise.resolve(),
    },
    {
      way: "a TLS handshake: its certificate is of an authority that nobody knows here",
      says: /^The source refuses connections, or does not answer \(UNABLE_TO_VERIFY_LEAF_SIGNATURE\)\. .*SOURCE_DB_URL/,
      refuse: async (test) => {
        server = await startTlsServer();
        await server.present({ names: "DNS:localhost" });
        const url = `postgres://postgres:secret@localhost:${server.port}/postgres`;
        return { ...test.context, source: connect({ side: "source", url, tls: "verify-full", ca: server.otherCa, ...pool }) };
      },
      end: async () => server?.[Symbol.asyncDispose](),
    },
  ];
  let server: TlsServer | undefined;

  it.each(ways)(
    "$way is told by the next tick, and that it is over by the second in a row that reaches it",
    async ({ says, refuse, end }) => {
      await using test = await loaded();
      await test.start();
      const refused = await refuse(test);
      await tick(refused);
      expect(await told(test)).toEqual([]);
      for (const message of test.queue.splice(0)) expect((await test.run(message, refused)).outcome).toBe("failed");
      await tick(refused);
      await test.target.admin`update public.sync_chains set failures = 9 where state = 'open'`;
      await tick(refused);
      expect(await told(test)).toEqual([
        { kind: "source_refuses", severity: "critical", message: expect.stringMatching(says) as string, occurrences: 2 },
      ]);
      expect(JSON.stringify(await told(test))).not.toContain("secret");
      await end(test);
      await tick(test.context);
      await tick({ ...test.context, source: nowhere("source") });
      await tick(test.context);
      expect(await told(test)).toMatchObject([{ kind: "source_refuses", occurrences: 3 }]);
      await tick(test.context);
      expect(await told(test)).toEqual([]);
      await test.drain();
      await tick(test.context);
      expect(await told(test)).toEqual([]);
    },
  );

  it("asks nobody else while it refuses: no page of it is sent or run, no job begins, and all go on with the first look that it answers", async () => {
    await using test = await loaded();
    await test.target.admin`delete from public.sync_jobs`;
    const { execution } = await test.start();
    const refused = { ...test.context, source: nowhere("source") };
    const [message] = test.queue.splice(0);
    if (!message) throw new Error("no page");
    await test.run(message, refused);
    await test.target.admin`
      insert into public.sync_jobs (name, schedule_type, cron_expression, next_execution_at, configuration)
      values ('one', 'daily', '0 2 * * *', now() - interval '1 minute', '{}'), ('two', 'daily', '0 2 * * *', now() - interval '1 minute', '{}')`;
    const due = () => test.target.admin`update public.sync_chains set due_at = now() - interval '1 second' where state = 'open'`;
    await due();
    await tick(refused);
    expect(test.queue).toEqual([]);
    expect(await test.run(message)).toEqual({ outcome: "source_refuses" });
    const jobs = () => test.target.admin<{ code: string; later: boolean }[]>`
      select last_error ->> 'code' as code, next_execution_at > now() + interval '10 seconds' as later from public.sync_jobs order by name`;
    expect([...(await jobs())]).toEqual([
      { code: "SOURCE_UNAVAILABLE", later: true },
      { code: "SOURCE_UNAVAILABLE", later: true },
    ]);
    await test.target.admin`update public.sync_chains set due_at = now() + interval '4 minutes' where state = 'open'`;
    expect(await tick(test.context)).toMatchObject({ resent: 1 });
    // Both jobs are tried; what runs already is in their way.
    expect((await jobs()).map(({ code }) => code)).toEqual(["EXECUTION_ACTIVE", "EXECUTION_ACTIVE"]);
    await test.drain();
    expect((await test.status(execution)).status).toBe("succeeded");
  });

  it("for longer than ISTHMUS_STALLED_MINUTES ends the executions that wait for it, with why", async () => {
    await using test = await loaded();
    const { execution } = await test.start();
    test.queue.length = 0;
    await test.target.admin`update public.sync_jobs set next_execution_at = now() - interval '1 minute'`;
    const refused = { ...test.context, source: nowhere("source") };
    await tick(refused);
    await test.target.admin`
      update public.sync_sources set refused_since = now() - interval '61 minutes'`;
    await tick(refused);
    expect((await test.status(execution)).status).toBe("running");
    await test.target.admin`update public.sync_executions set started_at = now() - interval '61 minutes'`;
    await test.target.admin`update public.sync_chains set moved_at = now() - interval '61 minutes'`;
    await tick(refused);
    const { status, errors } = await test.status(execution);
    expect(status).toBe("failed");
    expect(errors).toMatchObject([
      { code: "PAGE_STALLED", cause: { code: "SOURCE_UNAVAILABLE", reason: "ECONNREFUSED" }, passes: true },
    ]);
  });

  it("cannot be looked at, by a defect: no job begins behind that look, and each keeps why", async () => {
    await using test = await loaded();
    await test.target.admin`delete from public.sync_jobs`;
    await test.target.admin`
      insert into public.sync_jobs (name, schedule_type, cron_expression, next_execution_at, configuration)
      values ('one', 'daily', '0 2 * * *', now() - interval '1 minute', '{}')`;
    let looks = 0;
    const { unsafe } = test.context.source;
    const source = {
      ...test.context.source,
      unsafe: (...statement: Parameters<typeof unsafe>) => {
        if (looks++ === 0) throw new TypeError("a defect of ours");
        return unsafe(...statement);
      },
    };
    expect(await tick({ ...test.context, source: source as unknown as typeof test.context.source })).toMatchObject({
      started: [],
    });
    expect(looks).toBe(1);
    const jobs = await test.target.admin`select last_error ->> 'code' as code from public.sync_jobs`;
    expect([...jobs]).toEqual([{ code: "INTERNAL" }]);
  });

  it("by saying nothing is asked once by a tick, however many jobs are due", async () => {
    await using test = await loaded();
    await using silent = await silentServer();
    await test.target.admin`
      insert into public.sync_jobs (name, schedule_type, cron_expression, next_execution_at, configuration)
      select 'job ' || n, 'daily', '0 2 * * *', now() - interval '1 minute', '{}' from generate_series(1, 3) n`;
    await tick({ ...test.context, source: at(silent.url) });
    expect(silent.asked()).toBe(1);
    expect(await told(test)).toMatchObject([
      { kind: "source_refuses", message: expect.stringContaining("(CONNECT_TIMEOUT)") as string },
    ]);
  });

  it("for one page, and answers the next tick, is no news", async () => {
    await using test = await loaded();
    await test.start();
    const refused = { ...test.context, source: nowhere("source") };
    for (const message of test.queue.splice(0)) await test.run(message, refused);
    await tick(test.context);
    expect(await told(test)).toEqual([]);
  });
});

describe("the circuit breaker of a database", () => {
  it.each(["source", "target"] as const)(
    "asks a %s that refuses by one connection, whoever needs one, and closes by the first",
    async (side) => {
      await using test = await loaded();
      const role = side === "source" ? "isthmus_reader" : "isthmus_worker";
      let right = false;
      let asked = 0;
      const url = test[side].url(role, `local-${side === "source" ? "reader" : "worker"}`);
      const sql = connect({
        ...{ side, url, tls: "disable", ...pool, poolSize: 4 },
        socket: (to) => {
          asked++;
          return clearSocket(right ? to : { ...to, port: 1 });
        },
      });
      const ask = (): Promise<unknown> =>
        query(sql, side, "select 1 as one").catch((error: unknown) => (error as IsthmusError).detail["reason"]);
      expect(await ask()).toBe("ECONNREFUSED");
      expect(asked).toBe(1);
      expect(await Promise.all([ask(), ask(), ask(), ask()])).toEqual(Array.from({ length: 4 }, () => "ECONNREFUSED"));
      expect(asked).toBe(2);
      right = true;
      const [first] = await Promise.all([ask(), ask(), ask(), ask()]);
      expect(first).toEqual([{ one: 1 }]);
      expect(await Promise.all([ask(), ask(), ask(), ask()])).toEqual(Array.from({ length: 4 }, () => [{ one: 1 }]));
      await sql.end({ timeout: 1 });
    },
  );
});

it("a target that refuses is what sync-tick answers, with the reason: the watch over the ticks reads that in the target itself", async () => {
  await using test = await loaded();
  const begins = admitTick({ ...test.context, target: nowhere("target") });
  await expect(untilBegun(begins)).rejects.toMatchObject({ code: "TARGET_UNAVAILABLE", detail: { reason: "ECONNREFUSED" } });
});
