import { createHmac } from "node:crypto";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A message as it came: of which path, with which id, whether its signature holds, and what it says. */
export interface Received {
  readonly method: string;
  readonly path: string;
  readonly delivery: string;
  /** undefined: it was not signed. */
  readonly signed: boolean | undefined;
  readonly body: Record<string, unknown>;
}

/** What the receiver answers: a status, or nothing at all. */
export type Answer = number | "hangs";

/** Somebody's HTTP server for webhooks and heartbeats, who checks signatures by the documentation. */
export class WebhookReceiver implements AsyncDisposable {
  readonly received: Received[] = [];
  answer: Answer | ((received: Received) => Answer) = 200;
  private constructor(
    private readonly server: Server,
    readonly base: string,
    key: string,
  ) {
    server.on("request", (request, response: ServerResponse) => {
      let body = "";
      request.setEncoding("utf8");
      request.on("data", (part: string) => (body += part));
      request.on("end", () => {
        const one: Received = {
          method: request.method ?? "",
          path: request.url ?? "",
          delivery: String(request.headers["x-isthmus-delivery"] ?? ""),
          signed: holds(request.headers["x-isthmus-signature"], body, key),
          body: body === "" ? {} : (JSON.parse(body) as Record<string, unknown>),
        };
        this.received.push(one);
        const answer = typeof this.answer === "function" ? this.answer(one) : this.answer;
        if (answer !== "hangs") response.writeHead(answer).end("the receiver's own words");
      });
    });
  }

  static async start(key: string): Promise<WebhookReceiver> {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((ready) => server.once("listening", ready));
    return new WebhookReceiver(server, `http://127.0.0.1:${(server.address() as AddressInfo).port}`, key);
  }

  /** Of everything since the last call. */
  take(): Received[] {
    return this.received.splice(0);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    return new Promise((closed) => this.server.close(() => closed()));
  }
}

/** As docs/runbook.md tells a receiver to check: t=<seconds>,v1=<HMAC-SHA-256 of time, full stop and body>, of the last five minutes. */
function holds(header: unknown, body: string, key: string): boolean | undefined {
  if (typeof header !== "string") return undefined;
  const [, time = "", digest] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? [];
  const expected = createHmac("sha256", key).update(`${time}.${body}`).digest("hex");
  return digest === expected && Math.abs(Date.now() / 1000 - Number(time)) < 300;
}
