import { randomUUID } from "node:crypto";
import { Cron } from "croner";
import { RequestRefused } from "./types.ts";
import type { HeaderMap, PublishSettings } from "./types.ts";

export interface Schedule {
  readonly scheduleId: string;
  readonly cron: string;
  readonly destination: string;
  readonly settings: PublishSettings;
  readonly body: Buffer;
  readonly createdAt: number;
  readonly callerIp: string;
  isPaused: boolean;
  lastScheduleTime: number | undefined;
  nextScheduleTime: number | undefined;
}

interface NewSchedule {
  readonly headers: HeaderMap;
  readonly destination: string;
  readonly settings: PublishSettings;
  readonly body: Buffer;
  readonly callerIp: string;
}

/** Cron schedules. A time that passed while nobody looked is made up for once, not once per missed firing. */
export class Schedules {
  readonly #schedules = new Map<string, Schedule>();

  /** Creates a schedule, or replaces the one with the same id. */
  put({ headers, ...rest }: NewSchedule, now: number): Schedule {
    const scheduleId = headers["upstash-schedule-id"]?.[0] ?? `scd_${randomUUID().replaceAll("-", "")}`;
    if (!/^[\w.-]+$/.test(scheduleId)) throw new RequestRefused(400, `invalid schedule id: ${scheduleId}`);
    const cron = headers["upstash-cron"]?.[0] ?? "";
    const schedule: Schedule = {
      ...{ scheduleId, cron, ...rest, createdAt: now, isPaused: false },
      ...{ lastScheduleTime: undefined, nextScheduleTime: nextFiring(cron, now) },
    };
    this.#schedules.set(scheduleId, schedule);
    return schedule;
  }

  all(): readonly Schedule[] {
    return [...this.#schedules.values()];
  }

  get(scheduleId: string): Schedule {
    const schedule = this.#schedules.get(scheduleId);
    if (schedule === undefined) throw new RequestRefused(404, `schedule ${scheduleId} not found`);
    return schedule;
  }

  remove(scheduleId: string): void {
    this.#schedules.delete(this.get(scheduleId).scheduleId);
  }

  setPaused(scheduleId: string, paused: boolean, now: number): void {
    const schedule = this.get(scheduleId);
    schedule.isPaused = paused;
    schedule.nextScheduleTime = nextFiring(schedule.cron, now);
  }

  /** Fires what is due; returns when the next one is. */
  fireDue(now: number, fire: (schedule: Schedule) => void): number | undefined {
    let next: number | undefined;
    for (const schedule of this.#schedules.values()) {
      if (schedule.isPaused || schedule.nextScheduleTime === undefined) continue;
      if (schedule.nextScheduleTime <= now) {
        schedule.lastScheduleTime = now;
        schedule.nextScheduleTime = nextFiring(schedule.cron, now);
        fire(schedule);
      }
      if (schedule.nextScheduleTime !== undefined) next = Math.min(next ?? Infinity, schedule.nextScheduleTime);
    }
    return next;
  }
}

/** Five cron fields in UTC, or in the zone of a leading `CRON_TZ=Area/City`. */
function nextFiring(cron: string, now: number): number | undefined {
  const zoned = /^CRON_TZ=(\S+)\s+(.+)$/.exec(cron.trim());
  const [timezone, pattern] = [zoned?.[1] ?? "UTC", zoned?.[2] ?? cron];
  try {
    return new Cron(pattern, { mode: "5-part", timezone }).nextRun(new Date(now))?.getTime();
  } catch (error) {
    throw new RequestRefused(400, `invalid cron: ${error instanceof Error ? error.message : cron}`);
  }
}
