import { z } from "zod";
import { RedisReplyError } from "./reply.ts";
import type { Command, Reply } from "./reply.ts";

const Word = z.union([z.string(), z.number(), z.boolean()]);
const OneCommand = z.array(Word).min(1);
const ManyCommands = z.array(OneCommand);

/** Commands that need a connection of their own, which the REST interface does not have. */
const UNAVAILABLE: ReadonlySet<string> = new Set([
  ...["WATCH", "UNWATCH", "MULTI", "EXEC", "DISCARD", "SELECT", "AUTH", "HELLO", "QUIT", "SHUTDOWN", "CONFIG", "DEBUG"],
  ...["BLPOP", "BRPOP", "BLMOVE", "BLMPOP", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT"],
  ...["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "MONITOR"],
]);

/** A request that cannot be read: answered 400. */
export class BadRequest extends Error {}

export interface RestRequest {
  readonly kind: "single" | "pipeline" | "transaction";
  readonly commands: readonly Command[];
}

/** Reads a request: a JSON array at `/`, arrays of arrays at `/pipeline` and `/multi-exec`, else words in the path. */
export function parseRestRequest(url: URL, body: Buffer): RestRequest {
  const path = url.pathname.replace(/\/+$/, "");
  if (path === "") return { kind: "single", commands: [toCommand(readJson(OneCommand, body))] };
  if (path === "/pipeline") return { kind: "pipeline", commands: readJson(ManyCommands, body).map(toCommand) };
  if (path === "/multi-exec") return { kind: "transaction", commands: readJson(ManyCommands, body).map(toCommand) };
  const words = path.slice(1).split("/").map(decodeURIComponent);
  if (body.length > 0) words.push(body.toString("utf8"));
  for (const [name, value] of url.searchParams) {
    if (name !== "_token") words.push(name, ...(value === "" ? [] : [value]));
  }
  return { kind: "single", commands: [words] };
}

export function refusalOfUnavailable([name = ""]: Command): RedisReplyError | undefined {
  if (!UNAVAILABLE.has(name.toUpperCase())) return undefined;
  return new RedisReplyError(`ERR Command is not available: '${name}'`);
}

/** `{result}` or `{error}`. In base64 every string but the status OK is encoded; errors never are. */
export function renderReply(reply: Reply, base64: boolean): { result: unknown } | { error: string } {
  return reply instanceof RedisReplyError ? { error: reply.message } : { result: renderValue(reply, base64) };
}

function renderValue(reply: Reply, base64: boolean): unknown {
  if (reply === null || typeof reply === "number") return reply;
  if (Buffer.isBuffer(reply)) return reply.toString(base64 ? "base64" : "utf8");
  if (reply instanceof RedisReplyError) return reply.message;
  if ("status" in reply) {
    return base64 && reply.status !== "OK" ? Buffer.from(reply.status).toString("base64") : reply.status;
  }
  return reply.map((item) => renderValue(item, base64));
}

function toCommand(words: readonly (string | number | boolean)[]): Command {
  return words.map(String);
}

function readJson<T>(schema: z.ZodType<T>, body: Buffer): T {
  let json: unknown;
  try {
    json = JSON.parse(body.toString("utf8"));
  } catch {
    throw new BadRequest("ERR failed to parse command");
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new BadRequest("ERR failed to parse command");
  return parsed.data;
}
