import { Client } from "@upstash/qstash";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startRecordingDestination, type RecordingDestination } from "../local/qstash/recording-destination.ts";
import { startQstash, type LocalQstash } from "../local/qstash/server.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Context } from "../shared/context.ts";
import { type PageMessage, overduePages } from "../shared/target/sending.ts";
import { installationId } from "../shared/queue/installation.ts";
import { createPageQueue } from "../shared/queue/page-queue.ts";
import { QSTASH_TIMEOUT_MS } from "../shared/queue/qstash.ts";
import { sendPages } from "../shared/queue/send-pages.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

const ENTITIES = ["offices", "brackets", "storages"];
const TOMORROW = Date.now() + 9 * 3_600_000;

describe("sending pages through QStash", () => {
  let test: InProcess;
  let qstash: LocalQstash;
  let context: Context;
  let messages: PageMessage[];
  const logs: string[] = [];

  beforeAll(async () => {
    test = await createInProcess({ onLog: (line) => logs.push(line) });
  });
  afterAll(() => test[Symbol.asyncDispose]());

  /** One open chain per entity, whose first messages have been lost. */
  beforeEach(async () => {
    qstash = await startQstash();
    const config = { ...test.context.config, QSTASH_URL: qstash.url, QSTASH_TOKEN: qstash.token };
    context = { ...test.context, config, queue: createPageQueue(config) };
    logs.length = 0;
    test.queue.length = 0;
    await test.start({ entities: ENTITIES, capture: "full" });
    messages = test.queue.splice(0);
    expect(messages.length).toBe(ENTITIES.length);
    await overdue();
  });
  afterEach(async () => {
    await qstash.stop();
    await test.target.admin`delete from public.sync_executions`;
    await test.target.admin`delete from public.sync_alerts`;
  });

  const overdue = () =>
    test.target.admin`update public.sync_chains set due_at = now() - interval '1 second' where state = 'open'`;
  const chains = () =>
    test.target.admin<
      { id: string; sends: number; unclaimed: number; refusals: number; code: string | null; reason: string; pause: number }[]
    >`
      select id, sends, unclaimed, refusals, refusal ->> 'code' as code, refusal ->> 'reason' as reason,
             round(extract(epoch from due_at - now()))::integer as pause
        from public.sync_chains where state = 'open' order by id`;
  const alerts = () =>
    test.target.admin<{ kind: string; severity: string; message: string; details: { error: object }; open: boolean }[]>`
      select kind, severity, message, details, closed_at is null as open from public.sync_alerts order by first_seen_at`;
  const sweep = async () => {
    await overdue();
    return (await tick(context)).resent;
  };

  it("gives up a queue that takes the connection and says nothing, or begins an answer and does not end it", async () => {
    await using second = await startQstash({ faults: { silence: "within" } }).then((other) => ({
      queue: createPageQueue({ ...context.config, QSTASH_URL: other.url, QSTASH_TOKEN: other.token }),
      [Symbol.asyncDispose]: () => other.stop(),
    }));
    qstash.faults.silence = "before";
    const began = Date.now();
    const [before, within] = await Promise.all([context.queue.send(messages), second.queue.send(messages)]);
    expect(Date.now() - began).toBeLessThan(QSTASH_TIMEOUT_MS + 2_000);
    for (const refused of [before, within]) {
      expect(refused.map(({ refusal }) => refusal)).toEqual(messages.map(() => ({ reason: "timeout" })));
    }
  });

  it("takes each entry of a batch for itself: what was accepted is sent, what was refused is due again and says why", async () => {
    const refused = messages[1]?.chain ?? "";
    qstash.faults.refuse = ({ body }) => (body.includes(refused) ? "somebody else's words" : undefined);
    expect(await sweep()).toBe(2);
    expect(qstash.stats().published).toBe(2);
    for (const chain of await chains()) {
      expect(chain).toMatchObject(
        chain.id === refused
          ? { sends: 0, unclaimed: 0, refusals: 1, code: "QUEUE_REFUSED", reason: "request" }
          : { sends: 1, unclaimed: 1, refusals: 0, code: null },
      );
    }
    expect(logs.filter((line) => line.includes("page.not_sent")).length).toBe(1);
    expect(logs.join("")).not.toContain("somebody else's words");

    // Its next message is a new one for the queue's deduplication only when the last one was accepted.
    qstash.faults.refuse = null;
    expect(await sweep()).toBe(3);
    expect(qstash.stats()).toMatchObject({ published: 5, deduplicated: 0 });
    expect((await chains()).map(({ sends, code }) => ({ sends, code })).sort((a, b) => a.sends - b.sends)).toEqual([
      { sends: 1, code: null },
      { sends: 2, code: null },
      { sends: 2, code: null },
    ]);
  });

  it("tells of a used-up quota at once, with its end, and asks ever more rarely; the alert closes when it is over", async () => {
    qstash.faults.quota = { left: 0, resetsAt: TOMORROW };
    const pauses: number[][] = [];
    const [{ since } = { since: new Date() }] = await test.target.admin<{ since: Date }[]>`
      select due_at as since from public.sync_chains where state = 'open' limit 1`;
    for (let minute = 0; minute < 6; minute++) {
      expect(await sweep()).toBe(0);
      pauses.push((await chains()).map(({ pause }) => pause));
    }
    expect(pauses).toEqual([60, 120, 240, 300, 300, 300].map((pause) => messages.map(() => pause)));
    const resetsAt = new Date(Math.floor(TOMORROW / 1_000) * 1_000).toISOString();
    expect(await alerts()).toMatchObject([
      {
        kind: "queue_refused",
        severity: "critical",
        open: true,
        message: expect.stringContaining("3 chains") as string,
        details: { chains: 3, error: { code: "QUEUE_REFUSED", reason: "quota", status: 429, resetsAt } },
      },
    ]);
    // The query of docs/runbook.md: what waits is found although it is due later.
    const [waiting] = await test.target.admin<{ n: number; since: Date }[]>`
      select count(*)::integer as n, min(waits_since) as since from public.sync_chains where state = 'open' and waits_since is not null`;
    expect(waiting?.n).toBe(3);
    expect(Math.abs((waiting?.since.getTime() ?? 0) - since.getTime())).toBeLessThan(2_000);

    qstash.faults.quota = null;
    expect(await sweep()).toBe(3);
    expect(await alerts()).toMatchObject([{ kind: "queue_refused", open: false }]);
  });

  it("says of a page that had failed both why the queue did not take it and, when it has, what the page had failed with", async () => {
    const failed = { code: "SOURCE_UNAVAILABLE", remedy: "the page's own" };
    await test.target.admin`update public.sync_chains set failures = 5, last_error = ${test.target.admin.json(failed)}`;
    qstash.faults.quota = { left: 0, resetsAt: TOMORROW };
    expect(await sweep()).toBe(0);
    const errors = async () => [
      ...(await test.target.admin<{ page: string; queue: string | null }[]>`
        select distinct last_error ->> 'code' as page, refusal ->> 'code' as queue from public.sync_chains where state = 'open'`),
    ];
    expect(await errors()).toEqual([{ page: "SOURCE_UNAVAILABLE", queue: "QUEUE_REFUSED" }]);
    expect(await alerts()).toMatchObject([
      { kind: "queue_refused", details: { error: { code: "QUEUE_REFUSED", reason: "quota" } } },
    ]);
    qstash.faults.quota = null;
    await sweep();
    expect(await errors()).toEqual([{ page: "SOURCE_UNAVAILABLE", queue: null }]);
  });

  it("knows a quota that ends within a batch, although the entries do not say so", async () => {
    qstash.faults.quota = { left: 1, resetsAt: TOMORROW };
    expect(await sweep()).toBe(1);
    expect((await chains()).map(({ reason }) => reason).filter(Boolean)).toEqual(["quota", "quota"]);
  });

  it("logs and notes a batch of which every entry was refused, also where an execution begins", async () => {
    qstash.faults.refuse = () => "no";
    expect(await sendPages(context, messages)).toBe(0);
    expect(logs.filter((line) => line.includes("page.not_sent")).length).toBe(3);
    expect(await chains()).toMatchObject(messages.map(() => ({ refusals: 1, code: "QUEUE_REFUSED" })));
  });

  it("does not tell of a minute without an answer, but of the second", async () => {
    await qstash.stop();
    await sweep();
    expect(await alerts()).toEqual([]);
    await sweep();
    expect(await alerts()).toMatchObject([{ kind: "queue_refused", details: { error: { reason: "unreachable" } } }]);
  });

  it("tells of a token that may not publish", async () => {
    const config = { ...context.config, QSTASH_TOKEN: "outdated" };
    context = { ...context, config, queue: createPageQueue(config) };
    await sweep();
    expect(await alerts()).toMatchObject([{ kind: "queue_refused", details: { error: { reason: "token", status: 401 } } }]);
  });

  it("sends the same message again when it died between the queue's answer and the mark", async () => {
    expect((await context.queue.send(await overduePages(context.target, 200))).length).toBe(0);
    expect(await sweep()).toBe(3);
    expect(qstash.stats()).toMatchObject({ published: 3, deduplicated: 3 });
    expect(await chains()).toMatchObject(messages.map(() => ({ sends: 1, unclaimed: 1 })));
  });

  it("sends a page that nobody takes ever more rarely, and counts anew once it was taken", async () => {
    const pauses: number[] = [];
    for (let minute = 0; minute < 5; minute++) {
      await sweep();
      pauses.push((await chains())[0]?.pause ?? 0);
    }
    expect(pauses).toEqual([60, 120, 240, 300, 300]);
    const [message] = await overduePages(context.target, 200).then(async () => {
      await overdue();
      return overduePages(context.target, 1);
    });
    if (message === undefined) throw new Error("nothing is overdue");
    await test.run(message);
    const [row] = await test.target.admin`
      select unclaimed, refusals, waits_since from public.sync_chains where id = ${message.chain}`;
    expect(row).toEqual({ unclaimed: 0, refusals: 0, waits_since: null });
  });

  describe("and the functions do not take them", () => {
    let functions: RecordingDestination;
    const FIRST = { retryDelay: () => 1 };

    /** What comes out of QStash goes to a function that answers as a test says. */
    beforeEach(async () => {
      functions = await startRecordingDestination();
      await qstash.stop();
      qstash = await startQstash(FIRST);
      const config = {
        ...context.config,
        ...{ QSTASH_URL: qstash.url, QSTASH_TOKEN: qstash.token, FUNCTIONS_URL: functions.url },
        ...{ QSTASH_CURRENT_SIGNING_KEY: "outdated", QSTASH_NEXT_SIGNING_KEY: "outdated as well" },
      };
      context = { ...context, config, queue: createPageQueue(config) };
      await test.target.admin`delete from public.sync_queue_looks`;
      // The same installation, at another address.
      await test.target
        .admin`update public.sync_identities set identity = ${installationId(functions.url)} where side = 'installation'`;
    });
    afterEach(async () => {
      await test.target.admin`delete from public.sync_identities where side = 'installation'`;
      await functions.stop();
    });

    const lookAgain = () => test.target.admin`update public.sync_queue_looks set looked_at = looked_at - interval '1 hour'`;

    it("is told with the status and what to do, asks QStash rarely, and the alert closes when a page is taken", async () => {
      functions.answer = () => ({ status: 401 });
      await sweep();
      await qstash.idle();
      await sweep();
      await qstash.idle();
      await sweep();
      expect(await alerts()).toContainEqual(
        expect.objectContaining({
          kind: "deliveries_refused",
          severity: "critical",
          message: expect.stringMatching(
            /status 401 .* set QSTASH_CURRENT_SIGNING_KEY and QSTASH_NEXT_SIGNING_KEY anew/,
          ) as string,
          details: expect.objectContaining({ chains: 3, signingKeysOutdated: true }) as object,
        }),
      );
      const [{ looked } = { looked: 0 }] = await test.target.admin<{ looked: number }[]>`
        select extract(epoch from looked_at)::float8 as looked from public.sync_queue_looks where what = 'deliveries'`;
      await sweep();
      expect(
        await test.target.admin`
        select from public.sync_queue_looks where what = 'deliveries' and extract(epoch from looked_at)::float8 = ${looked}`,
      ).toHaveLength(1);
      await test.target.admin`update public.sync_chains set unclaimed = 0 where state = 'open'`;
      functions.answer = () => ({});
      await sweep();
      expect((await alerts()).filter(({ kind, open }) => kind === "deliveries_refused" && open)).toEqual([]);
    });

    it("tells of pages that the queue has accepted and nobody runs after eight minutes, not of a queue that is slow", async () => {
      functions.answer = () => ({});
      const kept = async () => (await alerts()).filter(({ kind }) => kind === "pages_not_run");
      const waited = (minutes: number) =>
        test.target
          .admin`update public.sync_chains set waits_since = waits_since - make_interval(mins => ${minutes}) where state = 'open'`;
      await sweep();
      await qstash.idle();
      await waited(9);
      await tick(context);
      expect(await kept()).toEqual([]);
      await sweep();
      await qstash.idle();
      await tick(context);
      expect(await kept()).toMatchObject([
        {
          severity: "critical",
          open: true,
          message: expect.stringContaining("3 chains") as string,
          details: { chains: 3, entities: [...ENTITIES].sort() },
        },
      ]);
      // One page comes through: the queue is slow, and the others wait for their turn.
      const [message] = messages;
      if (message === undefined) throw new Error("nothing was sent");
      await test.run(message);
      await tick(context);
      expect(await kept()).toMatchObject([{ open: false }]);
    });

    it("tells of dead letters also where the tick was killed before it had told them", async () => {
      await test.target.admin`delete from public.sync_alerts`;
      await test.target.admin`revoke insert on public.sync_alerts from isthmus_worker`;
      functions.answer = () => ({ status: 500 });
      await sweep();
      await qstash.idle();
      await lookAgain();
      await tick(context);
      await test.target.admin`
        grant insert (kind, severity, source_id, entity_id, execution_id, job_id, subject, message, details) on public.sync_alerts to isthmus_worker`;
      expect((await alerts()).filter(({ kind }) => kind === "dead_letters")).toEqual([]);
      await lookAgain();
      await tick(context);
      expect((await alerts()).filter(({ kind }) => kind === "dead_letters")).toMatchObject([
        { open: true, details: { messages: 3 } },
      ]);
    });

    it("is not told of pages that were taken and failed", async () => {
      functions.answer = () => ({ status: 503 });
      for (let minute = 0; minute < 3; minute++) {
        await sweep();
        await qstash.idle();
      }
      expect((await alerts()).filter(({ kind }) => kind === "deliveries_refused")).toEqual([]);
    });

    it("tells of each dead letter once, by number and status, and of no deliberate one", async () => {
      let count = 0;
      functions.answer = () =>
        count++ === 0
          ? { status: 489, headers: { "Upstash-NonRetryable-Error": "true" }, body: "private" }
          : { status: 500, body: "private" };
      await sweep();
      await qstash.idle();
      expect(qstash.stats().deadLettered).toBe(3);
      await lookAgain();
      await tick(context);
      const told = (await alerts()).filter(({ kind }) => kind === "dead_letters");
      expect(told).toMatchObject([{ severity: "warning", open: true, details: { messages: 2, statuses: { 500: 2 } } }]);
      expect(JSON.stringify(told)).not.toContain("private");
      await lookAgain();
      await tick(context);
      expect(await test.target.admin`select occurrences from public.sync_alerts where kind = 'dead_letters'`).toEqual([
        { occurrences: 1 },
      ]);
      // Somebody deletes them in the console.
      const console = new Client({ baseUrl: qstash.url, token: qstash.token, devMode: false, retry: false });
      for (const { dlqId } of (await console.dlq.listMessages()).messages) await console.dlq.delete(dlqId);
      await lookAgain();
      await tick(context);
      expect((await alerts()).filter(({ kind, open }) => kind === "dead_letters" && open)).toEqual([]);
    });
  });

  it("leaves a chain alone that was taken while its message was under way", async () => {
    const [message] = await overduePages(context.target, 1);
    if (message === undefined) throw new Error("nothing is overdue");
    await test.target.admin`
      update public.sync_chains set lease_until = now() + interval '50 seconds', due_at = now() + interval '50 seconds' where id = ${message.chain}`;
    qstash.faults.refuse = () => "no";
    await sendPages(context, [message]);
    expect((await chains()).find(({ id }) => id === message.chain)).toMatchObject({ refusals: 0, code: null });
  });
});
