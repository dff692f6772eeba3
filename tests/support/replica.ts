import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { appendFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { createLegacySchema } from "../../clinic/dataset/schema.ts";
import { prepareFiles, serverAccount, SUPERUSER } from "../../local/postgres-files.ts";
import { startPostgres, type LocalPostgres } from "../../local/postgres.ts";
import { prepareSource } from "../../local/target/supabase.ts";
import { scratchFolder } from "./scratch.ts";

const DATABASE = "legacy";

/** How long a standby may take to replay what a test wrote. */
const CATCH_UP_MS = 20_000;

/** Nothing but the tests writes here, and a replayed removal of rows must not wait for a reader: it ends it. */
const SETTINGS = {
  fsync: "off",
  autovacuum: "off",
  shared_buffers: "32MB",
  wal_level: "replica",
  wal_keep_size: "512MB",
  max_standby_streaming_delay: "0",
  hot_standby_feedback: "off",
  wal_retrieve_retry_interval: "100ms",
} as const;

/** A legacy server alone: transaction ids pass there only when the legacy application writes. */
export interface LegacyServer extends AsyncDisposable {
  readonly server: LocalPostgres;
  readonly writerUrl: string;
  readonly readerUrl: string;
}

/** Starts it, with the legacy schema and no rows. */
export async function createLegacyServer(): Promise<LegacyServer> {
  const folder = newFolder();
  const { server, writerUrl } = await startPrimary(folder);
  return {
    server,
    writerUrl,
    readerUrl: readerUrl(server),
    [Symbol.asyncDispose]: async () => {
      await server.remove();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A legacy server and its physical replica, by streaming replication, which falls behind as far as a test wants. */
export interface ReplicatedSource extends AsyncDisposable {
  readonly primary: LocalPostgres;
  readonly standby: LocalPostgres;
  /** The legacy application: writes on the primary. */
  readonly writerUrl: string;
  /** isthmus_reader on the standby: the role may only read, and so may everybody there. */
  readonly readerUrl: string;
  /** The same role on the primary, as behind an address that serves either node. */
  readonly primaryReaderUrl: string;
  /** The superuser on the primary. */
  readonly onPrimary: Sql;
  /** The superuser on the standby, for what a test must see or steer. */
  readonly onStandby: Sql;
  /** From here on the standby receives but does not show what the primary does. */
  pause(): Promise<void>;
  /** Goes on, and waits until everything is shown that the primary has committed. */
  resume(): Promise<void>;
  /** Waits until the standby shows everything that the primary has committed. */
  caughtUp(): Promise<void>;
  /** The standby receives nothing any more: what the primary commits from here on is lost when it fails. */
  cutOff(): Promise<void>;
  /** The primary is lost at once; the standby takes its place, on a new timeline, with all that it had received. */
  failOver(): Promise<void>;
}

const RECOVERY_CONFLICT = "40001";

/** A statement on a standby, or undefined when replay has cancelled it. */
const unlessCancelled = <T>(statement: Promise<T>) =>
  statement.catch((error: unknown) => {
    if ((error as { code?: string }).code === RECOVERY_CONFLICT) return undefined;
    throw error;
  });

/** Starts both servers, with the legacy schema and no rows. */
export async function createReplicatedSource(): Promise<ReplicatedSource> {
  const folder = newFolder();
  const { server: primary, writerUrl } = await startPrimary(folder);
  const standby = await startStandby(primary, folder);
  const onPrimary = postgres(primary.superuserUrl(DATABASE), { max: 4, onnotice: () => undefined });
  const onStandby = postgres(standby.superuserUrl(DATABASE), { max: 2, onnotice: () => undefined });
  const caughtUp = () => catchUp(onPrimary, onStandby);
  return {
    primary,
    standby,
    writerUrl,
    readerUrl: readerUrl(standby),
    primaryReaderUrl: readerUrl(primary),
    onPrimary,
    onStandby,
    pause: async () => {
      await onStandby`select pg_wal_replay_pause()`;
      await until("replay pauses", async () => {
        const [row] = await onStandby<{ state: string }[]>`select pg_get_wal_replay_pause_state() as state`;
        return row?.state === "paused";
      });
    },
    resume: async () => {
      // What is replayed at once may cancel the very statement that has resumed it.
      await unlessCancelled(onStandby`select pg_wal_replay_resume()`);
      await caughtUp();
    },
    caughtUp,
    cutOff: async () => {
      await caughtUp();
      await onStandby`alter system set primary_conninfo = ''`;
      await onStandby`select pg_reload_conf()`;
      await until("the standby is cut off", async () => (await onStandby`select from pg_stat_wal_receiver`).length === 0);
    },
    failOver: async () => {
      await onPrimary.end({ timeout: 0 });
      await primary.crash();
      await onStandby`select pg_promote()`;
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([onPrimary.end({ timeout: 0 }), onStandby.end({ timeout: 0 })]);
      await Promise.all([standby.remove(), primary.remove()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const newFolder = () => scratchFolder(`legacy-${randomBytes(3).toString("hex")}`);
const readerUrl = (server: LocalPostgres) => server.url("isthmus_reader", "local-reader", DATABASE);

async function startPrimary(folder: string): Promise<{ server: LocalPostgres; writerUrl: string }> {
  const server = await startPostgres({ name: "primary", dataDir: join(folder, "primary"), settings: SETTINGS });
  const { owner } = await prepareSource(server, { database: DATABASE });
  await createLegacySchema(owner);
  return { server, writerUrl: owner };
}

/** The embedded server comes without pg_basebackup: this is what that does. */
async function startStandby(primary: LocalPostgres, folder: string): Promise<LocalPostgres> {
  const from = prepareFiles(join(folder, "primary")).data;
  const dataDir = join(folder, "standby");
  // Finds the place and the binaries; the cluster it makes there gives way to the copy.
  const { data: to } = prepareFiles(dataDir);
  rmSync(to, { recursive: true, force: true });
  appendFileSync(join(from, "pg_hba.conf"), "host replication all 127.0.0.1/32 trust\n");
  // A backup is begun and ended in one session.
  const sql = postgres(primary.superuserUrl(), { max: 1, onnotice: () => undefined });
  try {
    await sql`select pg_reload_conf()`;
    await sql`select pg_backup_start('standby', fast => true)`;
    const copied = spawnSync("/bin/cp", ["-a", from, to], { encoding: "utf8", ...serverAccount() });
    if (copied.status !== 0) throw new Error(`The data of the primary was not copied: ${copied.stderr}`);
    const [stopped] = await sql<{ label: string }[]>`select labelfile as label from pg_backup_stop(wait_for_archive => false)`;
    writeFileSync(join(to, "backup_label"), stopped?.label ?? "");
  } finally {
    await sql.end();
  }
  rmSync(join(to, "postmaster.pid"), { force: true });
  rmSync(join(to, "pg_wal"), { recursive: true });
  for (const path of ["pg_wal/archive_status", "pg_wal/summaries"]) mkdirSync(join(to, path), { recursive: true, mode: 0o700 });
  for (const slot of readdirSync(join(to, "pg_replslot"))) rmSync(join(to, "pg_replslot", slot), { recursive: true });
  writeFileSync(join(to, "standby.signal"), "");
  // In a file, not on the command line, so that cutOff can take it back.
  const conninfo = `host=127.0.0.1 port=${primary.port} user=${SUPERUSER} sslmode=disable`;
  writeFileSync(join(to, "postgresql.auto.conf"), `primary_conninfo = '${conninfo}'\n`);
  const { uid, gid } = serverAccount();
  if (uid !== undefined) spawnSync("chown", ["-R", `${uid}:${gid ?? uid}`, to]);
  return startPostgres({ name: "standby", dataDir, settings: SETTINGS });
}

async function catchUp(primary: Sql, standby: Sql): Promise<void> {
  // Flushed and at the end of everything that has been written so far.
  const [end] = await primary<{ lsn: string }[]>`select pg_logical_emit_message(false, 'test', '', true)::text as lsn`;
  await until("the standby catches up", async () => {
    const rows = await unlessCancelled(standby<{ reached: boolean }[]>`
      select pg_last_wal_replay_lsn() >= ${end?.lsn ?? ""}::text::pg_lsn as reached`);
    return rows?.[0]?.reached === true;
  });
}

/** Asks until the answer is yes. Servers of their own tell nobody when they are through. */
export async function until(what: string, answer: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + CATCH_UP_MS;
  while (!(await answer())) {
    if (Date.now() > deadline) throw new Error(`In vain: ${what}`);
    await new Promise((again) => setTimeout(again, 5));
  }
}
