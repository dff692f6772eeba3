import { spawn } from "node:child_process";
import type { ChildProcessByStdio } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { RedisReplyError } from "./reply.ts";
import type { Backing, Command, Reply } from "./reply.ts";
import { RespClient } from "./resp-client.ts";

const START_TIMEOUT_MS = 10_000;
const NOT_INSTALLED = 127;
/** The shell waits for the end of its input, which comes with our end, however we die: no server outlives us. */
const RUN_UNTIL_INPUT_ENDS = `
command -v redis-server > /dev/null || exit ${NOT_INSTALLED}
redis-server "$@" & server=$!
read -r _
kill -9 $server; wait $server; rm -rf "$0"`;

/** Starts a `redis-server` on a unix socket, nothing kept on disk; undefined when none is installed. */
export async function startRedisProcess(): Promise<Backing | undefined> {
  const folder = await mkdtemp(join(tmpdir(), "isthmus-redis-"));
  const socket = join(folder, "redis.sock");
  const settings = {
    ...{ port: "0", unixsocket: socket, dir: folder, save: "", appendonly: "no", daemonize: "no" },
    "maxmemory-policy": "noeviction",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  const child = spawn("/bin/sh", ["-c", RUN_UNTIL_INPUT_ENDS, folder, ...flags], {
    stdio: ["pipe", "ignore", "ignore"],
    // Not in our process group: a signal to all of it would end the shell, and not the server, which ignores some.
    detached: true,
  });
  const exited = exitCodeOf(child);
  try {
    const client = await connectWhenReady(exited, socket);
    if (client !== undefined) return new RedisProcess(child, exited, client, folder);
  } catch (error) {
    child.stdin.end();
    await exited;
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  await rm(folder, { recursive: true, force: true });
  return undefined;
}

class RedisProcess implements Backing {
  constructor(
    readonly child: ChildProcessByStdin,
    readonly exited: Promise<number>,
    readonly client: RespClient,
    readonly folder: string,
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

  async end(): Promise<void> {
    this.client.close();
    this.child.stdin.end();
    await this.exited;
    await rm(this.folder, { recursive: true, force: true });
  }
}

type ChildProcessByStdin = ChildProcessByStdio<Writable, null, null>;

/** The shell's exit code; a machine without a shell counts as one without redis-server. */
function exitCodeOf(child: ChildProcessByStdin): Promise<number> {
  // Writing the end to a shell that is already gone is no news.
  child.stdin.on("error", () => undefined);
  return new Promise((resolve) => {
    child.once("error", () => resolve(NOT_INSTALLED));
    child.once("exit", (code) => resolve(code ?? -1));
  });
}

async function connectWhenReady(exited: Promise<number>, socket: string): Promise<RespClient | undefined> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      return await RespClient.connect(socket);
    } catch (error) {
      const code = await Promise.race([exited, new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 10))]);
      if (code === NOT_INSTALLED) return undefined;
      if (code !== undefined) throw new Error(`redis-server ended with ${code}`, { cause: error });
      if (Date.now() > deadline) throw new Error("redis-server did not open its socket in time", { cause: error });
    }
  }
}
