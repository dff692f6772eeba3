import type { IncomingMessage, ServerResponse } from "node:http";
import type { Reply } from "./isolate-process.ts";
import type { Isolate } from "./isolate.ts";

const HOP_BY_HOP = ["connection", "transfer-encoding", "content-length", "keep-alive"];

/** An answer of the platform's own. */
export function platformAnswer(status: number, code: string, message: string, headers: Record<string, string> = {}): Reply {
  return {
    handled: true,
    status,
    headers: { "content-type": "application/json", ...headers },
    body: Buffer.from(JSON.stringify({ code, message })),
  };
}

/** The answer to a request whose isolate has ended under it. */
export function endedAnswer({ ended }: Isolate): Reply {
  return ended === "memory" || ended === "cpu" || ended === "wall_clock"
    ? platformAnswer(
        546,
        "WORKER_RESOURCE_LIMIT",
        "Function failed due to not having enough compute resources (please check logs)",
      )
    : platformAnswer(503, "WORKER_ERROR", "The function's isolate ended.");
}

/** An answer to GET that says HTML is turned into plain text, as on a project without a domain of its own. */
export function plain(reply: Reply): Reply {
  const type = reply.headers["content-type"] ?? "";
  return type.startsWith("text/html")
    ? { ...reply, headers: { ...reply.headers, "content-type": type.replace("text/html", "text/plain") } }
    : reply;
}

/** Sends an answer on to whoever has asked. */
export function send(response: ServerResponse, reply: Reply): void {
  const headers = Object.entries(reply.headers).filter(([name, value]) => value !== undefined && !HOP_BY_HOP.includes(name));
  response.writeHead(reply.status, { ...Object.fromEntries(headers), "content-length": reply.body.length });
  response.end(reply.body);
}

/** @returns undefined for a body over the limit, whose rest is thrown away. */
export async function readAll(request: IncomingMessage, limitBytes: number): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes <= limitBytes) chunks.push(chunk as Buffer);
  }
  return bytes > limitBytes ? undefined : Buffer.concat(chunks);
}
