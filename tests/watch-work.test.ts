import { describe, expect, it } from "vitest";
import { lagOf, lateJobs } from "../shared/tick/watch-work.ts";
import type { WatchedJob } from "../shared/target/work.ts";

const NOON = Date.parse("2026-11-30T12:00:00Z");
const ago = (minutes: number) => new Date(NOON - minutes * 60_000).toISOString();
const job = (more: Partial<WatchedJob> = {}): WatchedJob => ({
  name: "daily",
  enabled: true,
  cron_expression: "0 2 * * *",
  time_zone: "UTC",
  configuration: {},
  alarms: {},
  worked: true,
  ...more,
});
const lag = (minutes: number, ...jobs: readonly WatchedJob[]) =>
  lagOf({ jobs, entities: [{ entity: "offices", since: ago(minutes) }] }, NOON)?.severity ?? null;

describe("an entity lags", () => {
  const hours = (n: number) => 60 * n;
  it.each<[string, WatchedJob[], number, number, string]>([
    // Due at two: ten hours ago, and 34 hours ago. One night may fail.
    ["of a daily job, after the second night", [job()], hours(34), hours(34) + 1, "warning"],
    ["of a job that runs every ten minutes, after an hour", [job({ cron_expression: "*/10 * * * *" })], 60, 61, "warning"],
    ["by what the job's alarms say", [job({ alarms: { lag_minutes: 90 } })], 90, 91, "warning"],
    [
      "of two jobs, by the one that promises more",
      [job(), job({ cron_expression: "0 * * * *" })],
      hours(3),
      hours(3) + 1,
      "warning",
    ],
    ["that no enabled job reads, after 26 hours", [job({ enabled: false })], hours(26), hours(26) + 1, "warning"],
    [
      "of a job of other entities, after 26 hours",
      [job({ configuration: { entities: ["doctors"] } })],
      hours(26),
      hours(26) + 1,
      "warning",
    ],
    [
      "of a job that only plans, after 26 hours",
      [job({ cron_expression: "*/10 * * * *", configuration: { dryRun: true } })],
      hours(26),
      hours(26) + 1,
      "warning",
    ],
    ["of a daily job, gravely after two more nights", [job()], hours(68), hours(68) + 1, "critical"],
    [
      "of a job every ten minutes, gravely after two days only",
      [job({ cron_expression: "*/10 * * * *" })],
      hours(52),
      hours(52) + 1,
      "critical",
    ],
    [
      "of a job whose time never comes, after 26 hours",
      [job({ cron_expression: "0 0 30 2 *" })],
      hours(26),
      hours(26) + 1,
      "warning",
    ],
    [
      "of a job whose expression is not valid, after 26 hours",
      [job({ cron_expression: "never" })],
      hours(26),
      hours(26) + 1,
      "warning",
    ],
  ])("%s", (_, jobs, still, lags, severity) => {
    expect(lag(still, ...jobs)).not.toBe(severity);
    expect(lag(lags, ...jobs)).toBe(severity);
  });

  it("of a job of working hours on Monday as after Friday's last time", () => {
    const jobs = [job({ cron_expression: "0 8-18 * * 1-5", time_zone: "Europe/Berlin" })];
    const monday = Date.parse("2026-11-30T06:30:00Z");
    const since = (time: string) => lagOf({ jobs, entities: [{ entity: "offices", since: time }] }, monday);
    expect(since("2026-11-27T17:01:00Z")).toBe(null);
    expect(since("2026-11-27T16:00:00Z")).toBe(null);
    expect(since("2026-11-27T15:59:00Z")).toMatchObject({ severity: "warning" });
  });

  it("is no matter where nothing has been set up to run by itself", () => {
    expect(lag(hours(1_000), job({ enabled: false, worked: false }))).toBe(null);
    expect(lag(hours(1_000))).toBe(null);
  });

  it("says which, since when, and what was expected", () => {
    const told = lagOf(
      {
        jobs: [job({ configuration: { entities: ["offices"] } })],
        entities: [
          { entity: "offices", since: ago(hours(35)) },
          { entity: "doctors", since: ago(hours(30)) },
          { entity: "orders", since: ago(1) },
        ],
      },
      NOON,
    );
    expect(told).toEqual({
      severity: "warning",
      message:
        "2 entities have not been in step for longer than expected; the oldest, offices, since 2026-11-29 01:00 UTC. Of these 1 is read by no enabled job.",
      details: {
        offices: { since: ago(hours(35)), expected_minutes: hours(34) },
        doctors: { since: ago(hours(30)), expected_minutes: hours(26) },
      },
    });
  });
});

describe("a job is late", () => {
  const running = (minutes: number, usualMinutes: number | null, alarms = {}) =>
    lateJobs(
      {
        running: [
          {
            execution: "e",
            job: "daily",
            alarms,
            since: ago(minutes),
            usualSeconds: usualMinutes === null ? null : 60 * usualMinutes,
          },
        ],
      },
      NOON,
    )[0]?.severity ?? null;
  it.each([
    ["after an hour, where nothing is known", null, {}, 60],
    ["after an hour, where it takes minutes", 5, {}, 60],
    ["after three times what it usually takes", 40, {}, 120],
    ["after its window", 5, { window_minutes: 30 }, 30],
  ])("%s, and gravely after twice that", (_, usual, alarms, window) => {
    expect(running(window, usual, alarms)).toBe(null);
    expect(running(window + 1, usual, alarms)).toBe("warning");
    expect(running(2 * window, usual, alarms)).toBe("warning");
    expect(running(2 * window + 1, usual, alarms)).toBe("critical");
  });
});
