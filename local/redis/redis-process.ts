import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RedisReplyError } from "./reply.ts";
import type { Backing, Command, Reply } from "./reply.ts";
import { RespClient } from "./resp-client.ts";

const START_TIMEOUT_MS = 10_000;

/** Starts a `redis-server` on a unix socket, nothing kept on disk; undefined when none is installed. */
export async function startRedisProcess(): Promise<Backing | undefined> {
  const folder = await mkdtemp(join(tmpdir(), "isthmus-redis-"));
  const socket = join(folder, "redis.sock");
  const settings = {
    ...{ port: "0", unixsocket: socket, dir: folder, save: "", appendonly: "no", daemonize: "no" },
    "maxmemory-policy": "noeviction",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  const child = spawn("redis-server", flags, { stdio: "ignore" });
  const outcome = await Promise.race([spawned(child), failed(child)]);
  if (outcome === "missing") {
    await rm(folder, { recursive: true, force: true });
    return undefined;
  }
  const killWithUs = () => child.kill("SIGKILL");
  process.once("exit", killWithUs);
  try {
    return new RedisProcess(child, await connectWhenReady(child, socket), folder, killWithUs);
  } catch (error) {
    killWithUs();
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

class RedisProcess implements Backing {
  constructor(
    readonly child: ChildProcess,
    readonly client: RespClient,
    readonly folder: string,
    readonly killWithUs: () => void,
  ) {}

  async run(command: Command): Promise<Reply> {
    const [reply = null] = await this.client.send([command]);
    return reply;
  }

  async transaction(commands: readonly Command[]): Promise<readonly Reply[] | RedisReplyError> {
    const replies = await this.client.send([["MULTI"], ...commands, ["EXEC"]]);
    const result = replies.at(-1);
    if (Array.isArray(result)) return result as readonly Reply[];
    // EXECABORT says nothing of the cause: the first command that was not queued does.
    const cause = replies.find((reply) => reply instanceof RedisReplyError);
    return cause ?? new RedisReplyError("EXECABORT Transaction discarded because of previous errors.");
  }

  async end(hard: boolean): Promise<void> {
    process.off("exit", this.killWithUs);
    this.client.close();
    const gone = new Promise<void>((resolve) => {
      if (this.child.exitCode !== null || this.child.signalCode !== null) resolve();
      else this.child.once("exit", () => resolve());
    });
    this.child.kill(hard ? "SIGKILL" : "SIGTERM");
    await gone;
    await rm(this.folder, { recursive: true, force: true });
  }
}

function spawned(child: ChildProcess): Promise<"started"> {
  return new Promise((resolve) => child.once("spawn", () => resolve("started")));
}

function failed(child: ChildProcess): Promise<"missing"> {
  return new Promise((resolve, reject) => {
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") resolve("missing");
      else reject(error);
    });
  });
}

async function connectWhenReady(child: ChildProcess, socket: string): Promise<RespClient> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      return await RespClient.connect(socket);
    } catch (error) {
      if (child.exitCode !== null)
        throw new Error(`redis-server ended with ${child.exitCode}`, { cause: error });
      if (Date.now() > deadline)
        throw new Error("redis-server did not open its socket in time", { cause: error });
      await new Promise<void>((resolve) => setTimeout(resolve, 10));
    }
  }
}
