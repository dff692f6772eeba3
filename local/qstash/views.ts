import type { DeadLetter } from "./dead-letters.ts";
import type { LoggedEvent } from "./event-log.ts";
import type { FlowSnapshot } from "./flow-limits.ts";
import type { Schedule } from "./schedules.ts";
import { reportedHeaders } from "./types.ts";
import type { Message, PublishSettings } from "./types.ts";

/** The JSON shapes in which the SDK reads messages, dead letters, schedules and flow-control keys. */
export function messageView(message: Message) {
  return {
    messageId: message.messageId,
    url: message.url,
    ...bodyView("body", message.body),
    ...settingsView(message.settings),
    maxRetries: message.settings.retries,
    notBefore: message.notBefore,
    createdAt: message.createdAt,
    scheduleId: message.scheduleId,
    callerIP: message.callerIp,
  };
}

export function deadLetterView({ dlqId, message, result }: DeadLetter) {
  return {
    ...messageView(message),
    dlqId,
    responseStatus: result.status,
    responseHeader: reportedHeaders(result.headers),
    ...bodyView("responseBody", result.body.length > 0 ? result.body : Buffer.from(result.error ?? "")),
  };
}

export function scheduleView(schedule: Schedule) {
  const { scheduleId, cron, destination, createdAt, isPaused, lastScheduleTime, nextScheduleTime } = schedule;
  return {
    ...{ scheduleId, cron, destination, createdAt, isPaused, lastScheduleTime, nextScheduleTime },
    ...bodyView("body", schedule.body),
    ...settingsView(schedule.settings),
    retries: schedule.settings.retries,
    delay: schedule.settings.delayMs === undefined ? undefined : schedule.settings.delayMs / 1_000,
    callerIP: schedule.callerIp,
  };
}

export function eventView({ labels, ...event }: LoggedEvent) {
  return { ...event, label: labels[0], labels };
}

export function flowView(key: string, snapshot: FlowSnapshot | undefined, waiting: number) {
  return {
    flowControlKey: key,
    waitListSize: waiting,
    parallelismMax: snapshot?.latest.parallelism ?? 0,
    parallelismCount: snapshot?.active ?? 0,
    rateMax: snapshot?.latest.rate ?? 0,
    rateCount: snapshot?.startedInPeriod ?? 0,
    ratePeriod: (snapshot?.latest.periodMs ?? 1_000) / 1_000,
    ratePeriodStart: Math.max(0, Math.floor((snapshot?.periodStart ?? 0) / 1_000)),
    isPaused: snapshot?.paused ?? false,
    isPinnedParallelism: false,
    isPinnedRate: false,
  };
}

function settingsView(settings: PublishSettings) {
  return {
    method: settings.method,
    header: reportedHeaders(settings.forward),
    callback: settings.callback,
    failureCallback: settings.failureCallback,
    retryDelayExpression: settings.retryDelay,
    flowControlKey: settings.flowControl?.key,
    parallelism: settings.flowControl?.parallelism,
    rate: settings.flowControl?.rate,
    period: settings.flowControl === undefined ? undefined : settings.flowControl.periodMs / 1_000,
    label: settings.labels[0],
    labels: settings.labels.length > 0 ? settings.labels : undefined,
  };
}

/** Text as it is, anything else as base64 under the other name. */
function bodyView(name: "body" | "responseBody", body: Buffer): Record<string, string> {
  const text = body.toString("utf8");
  return Buffer.from(text, "utf8").equals(body) ? { [name]: text } : { [`${name}Base64`]: body.toString("base64") };
}
