import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface ReceivedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

export interface RecordedAnswer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface RecordingDestination {
  readonly url: string;
  readonly received: ReceivedRequest[];
  /** Decides the next answers; a promise that does not settle is a destination that hangs. */
  answer: (request: ReceivedRequest) => RecordedAnswer | Promise<RecordedAnswer>;
  stop(): Promise<void>;
}

/** An endpoint that keeps what it receives and answers as told (200 unless told): a destination for QStash tests. */
export async function startRecordingDestination(): Promise<RecordingDestination> {
  const received: ReceivedRequest[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const call: ReceivedRequest = {
        method: request.method ?? "",
        path: request.url ?? "",
        headers: request.headers,
        body: Buffer.concat(chunks).toString("utf8"),
      };
      received.push(call);
      void Promise.resolve(destination.answer(call)).then(({ status, headers, body }) => {
        response.writeHead(status ?? 200, headers ?? {});
        response.end(body ?? "");
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const destination: RecordingDestination = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    answer: () => ({}),
    stop: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
  return destination;
}
