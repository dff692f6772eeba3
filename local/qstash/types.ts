/** Headers by lower-case name, each with all its values. The vendor reports them under names such as Content-Type. */
export type HeaderMap = Readonly<Record<string, readonly string[]>>;

export interface FlowControl {
  readonly key: string;
  readonly parallelism: number | undefined;
  readonly rate: number | undefined;
  readonly periodMs: number;
}

/** What the `Upstash-*` headers of a publish ask for. */
export interface PublishSettings {
  readonly method: string;
  readonly delayMs: number | undefined;
  readonly notBefore: number | undefined;
  readonly retries: number;
  readonly retryDelay: string | undefined;
  readonly timeoutMs: number;
  readonly deduplicationId: string | undefined;
  readonly contentBasedDeduplication: boolean;
  readonly flowControl: FlowControl | undefined;
  readonly callback: string | undefined;
  readonly failureCallback: string | undefined;
  /** Headers for the publish of the callback, already stripped of their prefix. */
  readonly callbackHeaders: HeaderMap;
  readonly failureCallbackHeaders: HeaderMap;
  /** `Content-Type` and what came as `Upstash-Forward-*`: sent to the destination. */
  readonly forward: HeaderMap;
  readonly labels: readonly string[];
}

export interface Message {
  readonly messageId: string;
  readonly url: string;
  readonly body: Buffer;
  readonly settings: PublishSettings;
  readonly createdAt: number;
  readonly notBefore: number;
  readonly scheduleId: string | undefined;
  readonly callerIp: string;
  /** How often it has been tried again so far. */
  retried: number;
  state: "waiting" | "done" | "cancelled";
}

/** One try that is due at a time. A copy (made by the duplicate switch) is never tried again. */
export interface Attempt {
  readonly message: Message;
  readonly dueAt: number;
  readonly copy: boolean;
  readonly sequence: number;
}

/** What a destination answered; status 0 when it could not be reached or did not answer in time. */
export interface DeliveryResult {
  readonly status: number;
  readonly headers: HeaderMap;
  readonly body: Buffer;
  readonly error: string | undefined;
}

/** One finished try, as `history()` reports it. */
export interface DeliveryRecord {
  readonly messageId: string;
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly status: number;
  readonly error: string | undefined;
  readonly retried: number;
  readonly at: number;
  readonly kind: "first" | "retry" | "duplicate" | "redelivery";
}

export interface QstashStats {
  published: number;
  delivered: number;
  retried: number;
  deduplicated: number;
  deadLettered: number;
  dropped: number;
  duplicated: number;
  inFlight: number;
  queued: number;
}

/** A request that the protocol refuses: answered as `{ error }` with the status. */
export class RequestRefused extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.name = "RequestRefused";
  }
}

/** Headers as the vendor reports them: `Content-Type`, whatever case they came in. */
export function reportedHeaders(headers: HeaderMap): HeaderMap {
  const canonical = (name: string) => name.replaceAll(/(^|-)([a-z])/g, (match) => match.toUpperCase());
  return Object.fromEntries(Object.entries(headers).map(([name, values]) => [canonical(name), values]));
}
