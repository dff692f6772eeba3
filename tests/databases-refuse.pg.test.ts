import { describe, expect, it } from "vitest";
import { connect } from "../shared/db/connect.ts";
import type { Side } from "../shared/db/settings.ts";
import { admitTick, tick, untilBegun } from "../shared/tick/tick.ts";
import type { Context } from "../shared/context.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, type Stranger } from "./support/stranger.ts";
import { clearSocket } from "./support/sockets.ts";

const TABLES: Stranger = { source: "old", target: "new", columns: { name: { type: "text" } } };

/** Where nobody listens. */
const nowhere = (side: Side) =>
  connect({
    side,
    url: "postgres://reader:secret@127.0.0.1:1/legacy",
    tls: "disable",
    poolSize: 1,
    idleTimeoutSeconds: 1,
    connectTimeoutSeconds: 2,
    applicationName: "isthmus",
    socket: clearSocket,
  });
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
  ];

  it.each(ways)(
    "$way is told by the next tick, and that it is over by the first that reaches it",
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
      expect((await told(test)).filter(({ kind }) => kind === "source_refuses")).toEqual([]);
      await test.target.admin`update public.sync_chains set due_at = now() where state = 'open'`;
      await tick(test.context);
      await test.drain();
      await tick(test.context);
      expect(await told(test)).toEqual([]);
    },
  );

  it("for one page, and answers the next tick, is no news", async () => {
    await using test = await loaded();
    await test.start();
    const refused = { ...test.context, source: nowhere("source") };
    for (const message of test.queue.splice(0)) await test.run(message, refused);
    await tick(test.context);
    expect(await told(test)).toEqual([]);
  });
});

it("a target that refuses is what sync-tick answers, with the reason: the watch over the ticks reads that in the target itself", async () => {
  await using test = await loaded();
  const begins = admitTick({ ...test.context, target: nowhere("target") });
  await expect(untilBegun(begins)).rejects.toMatchObject({ code: "TARGET_UNAVAILABLE", detail: { reason: "ECONNREFUSED" } });
});
