import type { Message } from "./types.ts";

export type EventState = "CREATED" | "ACTIVE" | "DELIVERED" | "ERROR" | "RETRY" | "FAILED" | "CANCELED";

export interface LoggedEvent {
  readonly time: number;
  readonly state: EventState;
  readonly messageId: string;
  readonly url: string;
  readonly scheduleId: string | undefined;
  readonly flowControlKey: string | undefined;
  readonly labels: readonly string[];
  readonly nextDeliveryTime: number | undefined;
  readonly error: string | undefined;
  /** What the destination answered; undefined: nothing, or the event is none of a delivery. */
  readonly responseStatus: number | undefined;
}

const KEPT = 5_000;

/** The latest events of all messages, as `client.logs()` reads them. */
export class EventLog {
  readonly #events: LoggedEvent[] = [];

  record(
    message: Message,
    state: EventState,
    time: number,
    more: { next?: number; error?: string | undefined; status?: number } = {},
  ) {
    this.#events.push({
      time,
      state,
      messageId: message.messageId,
      url: message.url,
      scheduleId: message.scheduleId,
      flowControlKey: message.settings.flowControl?.key,
      labels: message.settings.labels,
      nextDeliveryTime: more.next,
      error: more.error,
      responseStatus: more.status === 0 ? undefined : more.status,
    });
    if (this.#events.length > KEPT) this.#events.splice(0, this.#events.length - KEPT);
  }

  all(): readonly LoggedEvent[] {
    return this.#events;
  }
}
