import { spawn, type ChildProcess } from "node:child_process";
import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { freePort } from "../../local/ports.ts";
import { processCpuMs } from "./cpu.ts";
import { testServer } from "./servers.ts";

const NOBODY = 65_534;
/** Who may give commands to the pooler itself. */
const OPERATOR = "operator";
const PASSWORDS = { isthmus_worker: "local-worker", isthmus_reader: "local-reader", [OPERATOR]: OPERATOR };

/** A real pooler in transaction mode before the server of the tests. */
export interface TransactionPooler extends AsyncDisposable {
  /** The same address through the pooler. */
  through(url: string): string;
  /** A command of its console, as PAUSE or SHOW POOLS. */
  tell<Row extends object>(command: string): Promise<Row[]>;
  /** Kills it. */
  crash(): Promise<void>;
  /** CPU that it has used since it was started. */
  cpuMs(): number;
  /** Kills it and starts it, with other settings and passwords than before. */
  restart(settings?: Settings, passwords?: Readonly<Record<string, string>>): Promise<void>;
}

type Settings = Readonly<Record<string, string | number>>;

export interface PoolerOptions {
  readonly settings?: Settings;
  /** Of the server behind it; default: the server of the tests. */
  readonly serverPort?: number;
}

/** With three connections per database and role, unless told otherwise. */
export async function startTransactionPooler({ settings = {}, serverPort }: PoolerOptions = {}): Promise<TransactionPooler> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-pgbouncer-"));
  const port = await freePort();
  const behind = serverPort ?? (await testServer()).port;
  const account = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  let pooler: ChildProcess | undefined;

  const write = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    if (account.uid !== undefined) for (const one of [folder, path]) chownSync(one, NOBODY, NOBODY);
    return path;
  };
  const start = async (own: Settings, passwords: Readonly<Record<string, string>>) => {
    const users = Object.entries({ ...PASSWORDS, ...passwords }).map(([name, password]) => `"${name}" "${password}"\n`);
    const { databases = "*", ...rest } = own;
    const all = {
      ...{ listen_addr: "127.0.0.1", listen_port: port, unix_socket_dir: "", admin_users: OPERATOR },
      ...{ auth_type: "scram-sha-256", auth_file: write("users", users.join("")) },
      ...{ pool_mode: "transaction", default_pool_size: 3, ignore_startup_parameters: "extra_float_digits" },
      ...rest,
    };
    const lines = Object.entries(all).map(([name, value]) => `${name}=${value}\n`);
    const ini = write("ini", `[databases]\n${databases} = host=127.0.0.1 port=${behind}\n[pgbouncer]\n${lines.join("")}`);
    const started = spawn("pgbouncer", ["-q", ini], { stdio: "ignore", ...account });
    pooler = started;
    await new Promise<void>((spawned, failed) => {
      started.once("error", failed);
      started.once("spawn", () => spawned());
    });
    while (!(await listens(port))) await new Promise((again) => setTimeout(again, 10));
  };
  const crash = async () => {
    const running = pooler;
    pooler = undefined;
    if (!running) return;
    const gone = new Promise<void>((ended) => running.once("exit", () => ended()));
    running.kill("SIGKILL");
    await gone;
  };
  await start(settings, {});
  return {
    through: (url) => url.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`),
    tell: async <Row extends object>(command: string) => {
      const console = postgres(`postgres://${OPERATOR}:${OPERATOR}@127.0.0.1:${port}/pgbouncer`, { max: 1, fetch_types: false });
      try {
        return [...(await console.unsafe<Row[]>(command).simple())];
      } finally {
        await console.end({ timeout: 1 });
      }
    },
    cpuMs: () => processCpuMs(pooler?.pid ?? 0),
    crash,
    restart: async (own = {}, passwords = {}) => {
      await crash();
      await start({ ...settings, ...own }, passwords);
    },
    [Symbol.asyncDispose]: async () => {
      await crash();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function listens(port: number): Promise<boolean> {
  return new Promise((told) => {
    const socket = connect(port, "127.0.0.1");
    const tell = (open: boolean) => {
      socket.destroy();
      told(open);
    };
    socket.once("connect", () => tell(true)).once("error", () => tell(false));
  });
}
