import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { prepareFiles, serverAccount } from "../local/postgres-files.ts";
import { startPostgres, type LocalPostgres } from "../local/postgres.ts";
import { processTree } from "../local/processes.ts";

const FOLDER = resolve(`.local/platform-postgres-${process.pid}`);
afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

function client(url: string): Sql & AsyncDisposable {
  const sql = postgres(url, { max: 1, onnotice: () => undefined, fetch_types: false });
  return Object.assign(sql, { [Symbol.asyncDispose]: () => sql.end({ timeout: 1 }) });
}

describe("one server", () => {
  let pg: LocalPostgres;
  beforeAll(async () => {
    pg = await startPostgres({ name: "one", dataDir: join(FOLDER, "one") });
    await using sql = client(pg.superuserUrl());
    await sql.unsafe("create table kept (n integer)");
  });
  afterAll(() => pg.remove());

  it("is PostgreSQL 17 in UTC, durable, ready for logical decoding and prepared transactions", async () => {
    await using sql = client(pg.superuserUrl());
    const [row] = await sql`
      select current_setting('server_version_num')::int / 10000 as major, current_setting('TimeZone') as zone,
             current_setting('fsync') as fsync, current_setting('synchronous_commit') as commit,
             current_setting('wal_level') as wal, current_setting('max_prepared_transactions') as prepared,
             current_user as superuser, (select count(*)::int from pg_roles where rolname = 'postgres') as postgres`;
    expect(row).toEqual({
      major: 17,
      zone: "UTC",
      fsync: "on",
      commit: "on",
      wal: "logical",
      prepared: "10",
      superuser: "supabase_admin",
      postgres: 0,
    });
  });

  it("writes what it reports into its log file", async () => {
    await using sql = client(pg.superuserUrl());
    await expect(sql.unsafe("select 1 / 0 as marker_of_this_test")).rejects.toThrow("division by zero");
    expect(readFileSync(pg.logFile, "utf8")).toContain("marker_of_this_test");
  });

  it("keeps what was committed and prepared through a crash, and nothing else, even when a backend is busy", async () => {
    await using sql = client(pg.superuserUrl());
    await sql.unsafe("begin; insert into kept values (1); prepare transaction 'held'");
    await sql.unsafe("insert into kept values (2)");
    await using open = client(pg.superuserUrl());
    await open.unsafe("begin; insert into kept values (3)");
    // A backend in a loop does not notice that its server has died.
    await using busy = client(pg.superuserUrl());
    const [backend] = await busy<{ pid: number }[]>`select pg_backend_pid() as pid`;
    const endless = busy.unsafe("do $$ begin loop end loop; end $$").catch((error: unknown) => error);

    await pg.crash();
    expect(backend && processTree(backend.pid)).toEqual([]);
    expect(await endless).toBeInstanceOf(Error);
    await expect(ping(pg.port)).rejects.toThrow("ECONNREFUSED");

    const port = pg.port;
    await pg.restart();
    expect(pg.port).toBe(port);
    await using again = client(pg.superuserUrl());
    expect(await again`select n from kept order by n`).toEqual([{ n: 2 }]);
    await again.unsafe("commit prepared 'held'");
    expect(await again`select n from kept order by n`).toEqual([{ n: 1 }, { n: 2 }]);
    expect(readFileSync(pg.logFile, "utf8")).toContain("database system was not properly shut down");
  });

  it("is not started twice by one owner", async () => {
    await expect(pg.restart()).rejects.toThrow("already runs");
  });

  it("stops in order and starts again on its data", async () => {
    await pg.stop();
    await pg.stop();
    expect(readFileSync(pg.logFile, "utf8").trimEnd().split("\n").at(-1)).toContain("database system is shut down");
    await pg.restart();
    await using sql = client(pg.superuserUrl());
    expect(await sql`select count(*)::int as n from kept`).toEqual([{ n: 2 }]);
  });
});

describe("starting on existing data", () => {
  it("reuses it on another port, after a crash too", async () => {
    const dataDir = join(FOLDER, "again");
    const first = await startPostgres({ name: "first", dataDir });
    await using sql = client(first.superuserUrl());
    await sql.unsafe("create table kept as select 1 as n");
    await first.crash();
    const second = await startPostgres({ name: "second", dataDir });
    try {
      await using reader = client(second.superuserUrl());
      expect(await reader`select n from kept`).toEqual([{ n: 1 }]);
    } finally {
      await second.remove();
    }
    await expect(ping(second.port)).rejects.toThrow("ECONNREFUSED");
    expect(readdirSync(FOLDER)).not.toContain("again");
  });

  it("is refused while another server runs on it, which goes on undisturbed", async () => {
    const dataDir = join(FOLDER, "twice");
    const first = await startPostgres({ name: "first", dataDir });
    try {
      await expect(startPostgres({ name: "second", dataDir })).rejects.toThrow(/lock file "postmaster.pid" already exists/);
      await ping(first.port);
    } finally {
      await first.remove();
    }
  });

  it("is not stopped by a lock whose process id now belongs to somebody else", async () => {
    const dataDir = join(FOLDER, "foreign");
    const first = await startPostgres({ name: "first", dataDir });
    await first.crash();
    const other = spawn("sleep", ["60"], serverAccount());
    try {
      const lock = join(prepareFiles(dataDir).data, "postmaster.pid");
      writeFileSync(lock, readFileSync(lock, "utf8").replace(/^\d+/, String(other.pid)));
      const second = await startPostgres({ name: "second", dataDir });
      await second.remove();
    } finally {
      other.kill("SIGKILL");
    }
  });

  it("begins anew where the first start was interrupted", async () => {
    const dataDir = join(FOLDER, "half");
    mkdirSync(join(dataDir, "data", "base"), { recursive: true });
    const pg = await startPostgres({ name: "half", dataDir });
    await pg.remove();
  });
});

it("says why a server did not start, and leaves none behind", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const dataDir = join(FOLDER, "no-port");
  const { port } = taken.address() as AddressInfo;
  try {
    await expect(startPostgres({ name: "no-port", dataDir, port })).rejects.toThrow(/could not bind IPv4 address "127.0.0.1"/);
  } finally {
    taken.close();
  }
  // The folder is free again.
  const pg = await startPostgres({ name: "free", dataDir });
  await pg.remove();
});

it("runs below a folder that only its owner can enter; who deletes the folder deletes the data", async () => {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-private-"));
  chmodSync(folder, 0o700);
  const dataDir = join(folder, "data");
  const tables = async (pg: LocalPostgres) => {
    await using sql = client(pg.superuserUrl());
    return await sql`select to_regclass('kept') as found`;
  };
  try {
    const first = await startPostgres({ name: "private", dataDir });
    await using sql = client(first.superuserUrl());
    await sql.unsafe("create table kept ()");
    await first.stop();
    await first.restart();
    expect(await tables(first)).toEqual([{ found: "kept" }]);
    await first.stop();
    const second = await startPostgres({ name: "private", dataDir });
    expect(await tables(second)).toEqual([{ found: "kept" }]);
    await second.stop();

    rmSync(dataDir, { recursive: true });
    const third = await startPostgres({ name: "private", dataDir });
    expect(await tables(third)).toEqual([{ found: null }]);
    await third.stop();

    rmSync(dataDir, { recursive: true });
    const other = await startPostgres({ name: "other", dataDir: join(folder, "other") });
    expect(existsSync(third.logFile)).toBe(false);
    await other.remove();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

describe("the end of the process that started a server is the server's end", () => {
  it.each(["SIGKILL", "SIGINT", "SIGTERM"] as const)("by %s", async (signal) => {
    const dataDir = join(FOLDER, `child-${signal}`);
    const child = spawn(process.execPath, ["--import", "tsx", "tests/support/postgres-child.ts", dataDir], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const port = await firstLine(child);
    await ping(Number(port));
    child.kill(signal);
    await once(child, "exit");
    const log = join(dataDir, "server.log");
    await expect.poll(() => readFileSync(log, "utf8"), { timeout: 10_000 }).toContain("database system is shut down");
    await expect(ping(Number(port))).rejects.toThrow("ECONNREFUSED");
  });
});

async function firstLine(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error("no output");
  const [chunk] = (await once(child.stdout, "data")) as [Buffer];
  return chunk.toString().trim();
}

async function ping(port: number): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
  } finally {
    socket.destroy();
  }
}
