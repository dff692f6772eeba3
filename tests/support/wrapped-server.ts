import { spawn, spawnSync } from "node:child_process";
import { chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { freePort } from "../../local/ports.ts";

const BIN = "/usr/lib/postgresql/15/bin";
const NOBODY = 65_534;
/** A little below 2^32, so that a few dozen transactions wrap it. */
const NEXT_XID = 4_294_967_270;
/** Transactions per page of commit status, and per segment file. */
const PER_SEGMENT = 32_768 * 32;

/** A PostgreSQL (Debian's, which has pg_resetwal) whose 32-bit transaction ids are about to wrap. */
export async function wrappedServer(): Promise<{ readonly url: string } & AsyncDisposable> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-wrapped-"));
  const asRoot = process.getuid?.() === 0;
  if (asRoot) chownSync(folder, NOBODY, NOBODY);
  const as = asRoot ? { uid: NOBODY, gid: NOBODY } : {};
  const data = join(folder, "data");
  const must = (program: string, ...args: string[]) => {
    const result = spawnSync(join(BIN, program), args, { ...as, encoding: "utf8" });
    if (result.status !== 0) throw new Error(`${program}: ${result.error?.message ?? result.stderr}`);
  };
  must("initdb", "-D", data, "-U", "postgres", "--auth=trust", "--locale=C");
  // Everything that exists is frozen first: half the space away, its ids would lie in the future.
  const first = await freePort();
  must(
    "pg_ctl",
    "-D",
    data,
    "-w",
    "-o",
    `-p ${first} -c listen_addresses=127.0.0.1 -c unix_socket_directories=`,
    "-l",
    join(folder, "log"),
    "start",
  );
  must("vacuumdb", "-h", "127.0.0.1", "-p", String(first), "-U", "postgres", "--all", "--freeze", "--quiet");
  must("pg_ctl", "-D", data, "-w", "-m", "fast", "stop");
  must("pg_resetwal", "-f", "-x", String(NEXT_XID), "-u", String(NEXT_XID - 1_000), data);
  // The status file of the new ids, which nobody has written yet.
  mkdirSync(join(data, "pg_xact"), { recursive: true });
  const segment = join(
    data,
    "pg_xact",
    Math.floor(NEXT_XID / PER_SEGMENT)
      .toString(16)
      .toUpperCase()
      .padStart(4, "0"),
  );
  writeFileSync(segment, Buffer.alloc(32 * 8_192, 0x55));
  if (asRoot) chownSync(segment, NOBODY, NOBODY);
  const port = await freePort();
  const server = spawn(
    join(BIN, "postgres"),
    ["-D", data, "-p", String(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"],
    { ...as, stdio: "ignore" },
  );
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  for (let tries = 0; ; tries++) {
    const sql = postgres(url, { max: 1, connect_timeout: 1, onnotice: () => undefined });
    try {
      await sql`select 1`;
      break;
    } catch (error) {
      if (tries > 200) throw error;
      await new Promise((again) => setTimeout(again, 50));
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
  return {
    url,
    [Symbol.asyncDispose]: async () => {
      server.kill("SIGQUIT");
      await new Promise<void>((gone) => server.once("exit", () => gone()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
