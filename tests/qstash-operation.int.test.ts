import { Client } from "@upstash/qstash";
import { describe, expect, it, vi } from "vitest";
import { startQstash } from "../local/qstash/server.ts";
import { advance, client, destination, now, pass, qstash, start, useQstash } from "./support/qstash.ts";

useQstash();

const bodies = () => destination.received.map(({ body }) => body);

describe("schedules", () => {
  const everyMinute = () => ({
    destination: `${destination.url}/tick`,
    cron: "* * * * *",
    scheduleId: "tick",
  });

  it("fire by their cron expression, naming the schedule", async () => {
    const { scheduleId } = await client.schedules.create({ ...everyMinute(), body: "go", retries: 0 });
    expect(scheduleId).toBe("tick");
    await pass(29_999);
    expect(destination.received).toEqual([]);
    await pass(1);
    await pass(60_000);
    expect(bodies()).toEqual(["go", "go"]);
    expect(destination.received[0]?.headers).toMatchObject({
      "upstash-schedule-id": "tick",
      "upstash-retried": "0",
    });
    expect(await client.schedules.get("tick")).toMatchObject({
      ...{
        scheduleId: "tick",
        cron: "* * * * *",
        destination: `${destination.url}/tick`,
        method: "POST",
        body: "go",
      },
      ...{ retries: 0, isPaused: false, lastScheduleTime: now, nextScheduleTime: now + 60_000 },
    });
  });

  it("of the same id are overwritten, not added", async () => {
    await client.schedules.create({ ...everyMinute(), body: "old" });
    await client.schedules.create({ ...everyMinute(), cron: "0 * * * *", body: "new" });
    expect((await client.schedules.list()).map(({ cron }) => cron)).toEqual(["0 * * * *"]);
    await pass(30_000);
    expect(bodies()).toEqual([]);
    await pass(59 * 60_000);
    expect(bodies()).toEqual(["new"]);
  });

  it("stand still while paused, and fire once at the next time after", async () => {
    await client.schedules.create(everyMinute());
    await client.schedules.pause({ schedule: "tick" });
    expect(await client.schedules.get("tick")).toMatchObject({ isPaused: true });
    await pass(300_000);
    expect(destination.received).toEqual([]);
    await client.schedules.resume({ schedule: "tick" });
    await qstash.idle();
    expect(destination.received).toEqual([]);
    await pass(30_000);
    expect(destination.received).toHaveLength(1);
  });

  it("are gone when deleted; unknown ones are 404", async () => {
    await client.schedules.create(everyMinute());
    await client.schedules.delete("tick");
    await expect(client.schedules.get("tick")).rejects.toMatchObject({ status: 404 });
    await pass(120_000);
    expect(destination.received).toEqual([]);
  });

  it("keep to the time zone they name, else to UTC", async () => {
    const { scheduleId } = await client.schedules.create({
      ...everyMinute(),
      cron: "0 9 * * *",
      scheduleId: "utc",
    });
    const utc = await client.schedules.get(scheduleId);
    expect(new Date(utc.nextScheduleTime ?? 0).toISOString()).toBe("2026-03-02T09:00:00.000Z");
    await client.schedules.create({ ...everyMinute(), cron: "CRON_TZ=America/New_York 0 9 * * *" });
    const { nextScheduleTime } = await client.schedules.get("tick");
    expect(new Date(nextScheduleTime ?? 0).toISOString()).toBe("2026-03-01T14:00:00.000Z");
  });

  it.each(["* * * * * *", "61 * * * *", "often", ""])("with the cron expression %j are refused", async (cron) => {
    await expect(client.schedules.create({ ...everyMinute(), cron })).rejects.toMatchObject({
      status: 400,
    });
  });

  it("do not deduplicate their own firings", async () => {
    const headers = { "Upstash-Deduplication-Id": "once" };
    await client.schedules.create({ ...everyMinute(), headers });
    await pass(30_000);
    await pass(60_000);
    expect(destination.received).toHaveLength(2);
  });
});

describe("faults", () => {
  const publishMany = async (count: number) => {
    await client.batch(Array.from({ length: count }, (_, n) => ({ url: destination.url, body: String(n) })));
    await qstash.idle();
  };

  it("duplicate deliveries carry the same message", async () => {
    qstash.faults.duplicate = 1;
    await publishMany(5);
    const ids = destination.received.map(({ headers }) => headers["upstash-message-id"]);
    expect(ids).toHaveLength(10);
    expect(new Set(ids).size).toBe(5);
    expect(qstash.stats()).toMatchObject({ published: 5, delivered: 10, duplicated: 5 });
    qstash.faults.duplicate = 0;
    await publishMany(5);
    expect(destination.received).toHaveLength(15);
  });

  it("dropped messages are accepted and never delivered", async () => {
    qstash.faults.drop = 1;
    await publishMany(4);
    await pass(100_000_000);
    expect(destination.received).toEqual([]);
    expect(qstash.stats()).toMatchObject({ published: 4, dropped: 4, queued: 0 });
  });

  it("the same seed loses the same messages", async () => {
    const survivors = async () => {
      await qstash.stop();
      destination.received.length = 0;
      await start({ seed: 42, faults: { drop: 0.5 } });
      await publishMany(20);
      return bodies().toSorted();
    };
    const first = await survivors();
    expect(first.length).toBeGreaterThan(0);
    expect(first.length).toBeLessThan(20);
    expect(await survivors()).toEqual(first);
  });

  it("an extra delay lies within its range", async () => {
    qstash.faults.delay = [5_000, 9_000];
    await publishMany(3);
    expect(destination.received).toEqual([]);
    await pass(4_999);
    expect(destination.received).toEqual([]);
    await pass(4_001);
    expect(destination.received).toHaveLength(3);
  });

  it("reordering lets later messages overtake earlier ones and loses none", async () => {
    qstash.faults.reorder = true;
    const url = destination.url;
    await client.batch(Array.from({ length: 20 }, (_, n) => ({ url, body: String(n) })));
    // The window passes in steps, so that the order of arrival is the order of the draws.
    for (let step = 0; step < 51; step++) {
      advance(1);
      qstash.wake();
      await vi.waitFor(() => expect(qstash.stats().inFlight).toBe(0), { interval: 1 });
    }
    const order = bodies().map(Number);
    expect(order.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(order).not.toEqual(order.toSorted((a, b) => a - b));
  });
});

describe("history", () => {
  it("keeps deliveries with body and status, and redelivers any of them, signed anew", async () => {
    destination.answer = ({ body }) => ({ status: body === "bad" ? 500 : 200 });
    const { messageId } = await client.publish({ url: `${destination.url}/p`, body: "good" });
    await client.publish({ url: `${destination.url}/p`, body: "bad", retries: 0 });
    await qstash.idle();
    expect(qstash.history()).toHaveLength(2);
    expect(qstash.history()).toContainEqual(
      expect.objectContaining({
        messageId,
        body: "good",
        status: 200,
        kind: "first",
        url: `${destination.url}/p`,
      }),
    );
    const again = await qstash.redeliver(messageId);
    expect(again).toMatchObject({ messageId, body: "good", status: 200, kind: "redelivery" });
    const [first, ...rest] = destination.received.filter(({ body }) => body === "good");
    expect(rest).toHaveLength(1);
    expect(rest[0]?.headers["upstash-message-id"]).toBe(messageId);
    expect(rest[0]?.headers["upstash-signature"]).not.toBe(first?.headers["upstash-signature"]);
    expect(() => qstash.redeliver("msg_unknown")).toThrow(/msg_unknown/);
  });
});

describe("going down", () => {
  it("a crash loses what waits, cuts what is under way, and the port can be taken again at once", async () => {
    let cut = false;
    destination.answer = () => new Promise(() => undefined);
    await client.schedules.create({ destination: destination.url, cron: "* * * * *" });
    await client.publish({ url: destination.url, body: "hangs" });
    await client.publish({ url: destination.url, body: "waits", delay: 60 });
    await vi.waitFor(() => expect(bodies()).toEqual(["hangs"]));
    const idle = qstash.idle().then(() => (cut = true));
    const crashed = qstash;
    await qstash.crash();
    await vi.waitFor(() => expect(crashed.stats()).toMatchObject({ inFlight: 0, queued: 0 }));
    await idle;
    expect(cut).toBe(true);
    await expect(client.publish({ url: destination.url })).rejects.toThrow();
    destination.answer = () => ({});
    await start({ port: Number(new URL(qstash.url).port), token: qstash.token });
    expect(await client.schedules.list()).toEqual([]);
    await pass(120_000);
    expect(bodies()).toEqual(["hangs"]);
    await client.publish({ url: destination.url, body: "after" });
    await qstash.idle();
    expect(bodies()).toEqual(["hangs", "after"]);
  });

  it("a stop lets a delivery under way come to its end", async () => {
    let release = (): void => undefined;
    destination.answer = () => new Promise((resolve) => (release = () => resolve({})));
    await client.publish({ url: destination.url, body: "x" });
    await vi.waitFor(() => expect(bodies()).toEqual(["x"]));
    const stopped = qstash.stop();
    release();
    await stopped;
    expect(qstash.history()).toMatchObject([{ body: "x", status: 200 }]);
  });

  it("works by the real clock when none is injected", async () => {
    const real = await startQstash({ retryDelay: () => 20 });
    destination.answer = ({ headers }) => ({ status: headers["upstash-retried"] === "2" ? 200 : 500 });
    await new Client({ baseUrl: real.url, token: real.token, retry: false }).publish({ url: destination.url });
    await real.idle();
    expect(destination.received).toHaveLength(3);
    expect(real.stats()).toMatchObject({ delivered: 1, retried: 2, queued: 0 });
    await real.stop();
  });

  it("says what it does not speak", async () => {
    await expect(client.queue({ queueName: "q" }).get()).rejects.toMatchObject({ status: 404 });
  });
});
