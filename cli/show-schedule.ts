import { OLD_SCHEDULE_ID } from "../shared/queue/installation.ts";
import type { OldSchedule, Scheduled } from "./schedule.ts";

/** What npm run sync -- schedule has done, for a person. */
export function showSchedule({ scheduleId, destination, old, ...done }: Scheduled & { readonly removed?: boolean }): string {
  return `${ownLine(scheduleId, destination, done.removed)}${old === null ? "" : oldLine(old)}`;
}

function ownLine(scheduleId: string, destination: string, removed: boolean | undefined): string {
  if (removed === undefined) return `QStash calls ${destination} every minute (schedule ${scheduleId}).\n`;
  return removed ? `Schedule ${scheduleId} is removed.\n` : `There is no schedule ${scheduleId}.\n`;
}

function oldLine({ destination, removed }: OldSchedule): string {
  return removed
    ? `Schedule ${OLD_SCHEDULE_ID}, which called the same address, is removed.\n`
    : `Schedule ${OLD_SCHEDULE_ID} calls ${destination}, another installation: it is left alone.\n`;
}
