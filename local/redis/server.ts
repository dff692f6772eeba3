import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { systemClock } from "../../shared/clock.ts";
import type { Clock } from "../../shared/clock.ts";
import { readBody } from "../read-body.ts";
import { BuiltInStore } from "./built-in-store.ts";
import { RATE_LIMITED_ERROR, falsify, refusalWhenFull, refusalWhenReadOnly } from "./faults.ts";
import type { RedisFaults } from "./faults.ts";
import { startRedisProcess } from "./redis-process.ts";
import { RedisReplyError } from "./reply.ts";
import type { Backing, Command, Reply } from "./reply.ts";
import { BadRequest, parseRestRequest, refusalOfUnavailable, renderReply } from "./rest-protocol.ts";
import type { RestRequest } from "./rest-protocol.ts";

const MAX_BODY_BYTES = 10 * 1024 * 1024;
const METHODS: ReadonlySet<string> = new Set(["HEAD", "GET", "POST", "PUT"]);

export type RedisBackingName = "redis-server" | "built-in";

export interface RedisOptions {
  /** 0 or absent: a free one. */
  readonly port?: number;
  readonly token?: string;
  /** Absent: a redis-server when one is installed, else the built-in store. */
  readonly prefer?: RedisBackingName;
  readonly faults?: Partial<RedisFaults>;
  /** Decides what has expired in the built-in store; a redis-server has its own clock. */
  readonly clock?: Clock;
}

export interface LocalRedis {
  readonly url: string;
  readonly token: string;
  /** Reads, and writes nothing. */
  readonly readOnlyToken: string;
  readonly backing: RedisBackingName;
  readonly faults: RedisFaults;
  /** Commands that the vendor would bill: each one of a pipeline, a variadic one once. */
  commands(): number;
  stop(): Promise<void>;
  /** Ends at once and loses all data, as a killed process would; `restart()` brings it back, empty. */
  crash(): Promise<void>;
  restart(): Promise<void>;
}

/** Starts an Upstash-compatible REST endpoint on 127.0.0.1 in front of a redis-server or the built-in store. */
export async function startRedis(options: RedisOptions = {}): Promise<LocalRedis> {
  const clock = options.clock ?? systemClock;
  const process = options.prefer === "built-in" ? undefined : await startRedisProcess();
  if (process === undefined && options.prefer === "redis-server") throw new Error("no redis-server is installed");
  const name = process === undefined ? "built-in" : "redis-server";
  const service = new RedisService(options, name, process ?? new BuiltInStore(clock), clock);
  await service.listen(options.port ?? 0);
  return service;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

class RedisService implements LocalRedis {
  readonly token: string;
  readonly readOnlyToken = `local-redis-read-${randomUUID()}`;
  readonly faults: RedisFaults;
  url = "";
  #server: Server | undefined;
  #billed = 0;
  #lies = 0;

  constructor(
    options: RedisOptions,
    readonly backing: RedisBackingName,
    private store: Backing,
    readonly clock: Clock,
  ) {
    this.token = options.token ?? `local-redis-${randomUUID()}`;
    this.faults = { mode: "ok", delayMs: 0, ...options.faults };
  }

  async listen(port: number): Promise<void> {
    const server = createServer((request, response) => {
      if (this.faults.mode === "absent") {
        request.socket.resetAndDestroy();
        return;
      }
      void this.#answer(request).then(({ status, body }) => {
        response.writeHead(status, { "content-type": "application/json" });
        response.end(JSON.stringify(body));
      });
    });
    server.on("connection", (socket: Socket) => {
      if (this.faults.mode === "absent") socket.resetAndDestroy();
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, "127.0.0.1", resolve);
    });
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  commands(): number {
    return this.#billed;
  }

  stop(): Promise<void> {
    return this.#end();
  }

  crash(): Promise<void> {
    return this.#end();
  }

  async restart(): Promise<void> {
    await this.#end();
    if (this.backing === "built-in") this.store = new BuiltInStore(this.clock);
    else {
      const process = await startRedisProcess();
      if (process === undefined) throw new Error("redis-server is not installed any more");
      this.store = process;
    }
    await this.listen(Number(new URL(this.url).port));
  }

  async #end(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await Promise.all([closed, this.store.end()]);
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const url = new URL(request.url ?? "/", "http://local");
    if (!METHODS.has(request.method ?? "")) return { status: 405, body: { error: "ERR method not allowed" } };
    try {
      const body = await readBody(request, MAX_BODY_BYTES);
      if (!body) throw new BadRequest(`ERR max request size exceeded. Limit: ${MAX_BODY_BYTES} bytes`);
      const right = this.#rightOf(request, url);
      if (right === undefined) return { status: 401, body: { error: "WRONGPASS invalid or missing auth token" } };
      if (this.faults.mode === "rate-limited") return { status: 429, body: { error: RATE_LIMITED_ERROR } };
      if (this.faults.mode === "slow") await new Promise<void>((resolve) => setTimeout(resolve, this.faults.delayMs));
      const asked = parseRestRequest(url, body);
      const refusal =
        right === "read" ? asked.commands.map(refusalWhenReadOnly).find((reason) => reason !== undefined) : undefined;
      if (refusal !== undefined) return { status: 400, body: { error: refusal.message } };
      return await this.#execute(asked, request.headers["upstash-encoding"] === "base64");
    } catch (error) {
      const message = error instanceof Error ? error.message : "ERR internal error";
      return { status: error instanceof BadRequest ? 400 : 500, body: { error: message } };
    }
  }

  async #execute({ kind, commands }: RestRequest, base64: boolean): Promise<Answer> {
    this.#billed += commands.length;
    if (kind === "transaction") return this.#executeTransaction(commands, base64);
    const replies = [];
    for (const command of commands) replies.push(renderReply(await this.#run(command), base64));
    if (kind === "pipeline") return { status: 200, body: replies };
    const [reply] = replies;
    return { status: reply !== undefined && "error" in reply ? 400 : 200, body: reply };
  }

  async #executeTransaction(commands: readonly Command[], base64: boolean): Promise<Answer> {
    const refusal = commands.map((command) => this.#refusal(command)).find((reason) => reason !== undefined);
    const replies = refusal ?? (await this.store.transaction(commands));
    if (replies instanceof RedisReplyError) return { status: 400, body: { error: replies.message } };
    return { status: 200, body: replies.map((reply) => renderReply(this.#distort(reply), base64)) };
  }

  async #run(command: Command): Promise<Reply> {
    return this.#refusal(command) ?? this.#distort(await this.store.run(command));
  }

  #refusal(command: Command): RedisReplyError | undefined {
    return refusalOfUnavailable(command) ?? (this.faults.mode === "full" ? refusalWhenFull(command) : undefined);
  }

  #distort(reply: Reply): Reply {
    return this.faults.mode === "wrong" ? falsify(reply, this.#lies++) : reply;
  }

  #rightOf(request: IncomingMessage, url: URL): "all" | "read" | undefined {
    const digest = (text: string) => createHash("sha256").update(text).digest();
    const given = request.headers.authorization ?? `Bearer ${url.searchParams.get("_token") ?? ""}`;
    const isGiven = (token: string) => timingSafeEqual(digest(given), digest(`Bearer ${token}`));
    if (isGiven(this.token)) return "all";
    return isGiven(this.readOnlyToken) ? "read" : undefined;
  }
}
