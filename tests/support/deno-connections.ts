import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { join, resolve } from "node:path";
import { denoProgram, type DenoRelease } from "../../local/functions/deno.ts";

const ROOT = resolve(import.meta.dirname, "../..");

/** A connection to try: how, and to what. */
export interface Attempt {
  readonly host: string;
  readonly port: number;
  readonly tls: "verify-full" | "require" | "disable";
  readonly ca?: string;
}

/** What became of each attempt, made by the functions' own socket on Deno: "encrypted", "plain", or why not. */
export async function connectOnDeno(
  release: DenoRelease,
  attempts: readonly Attempt[],
  env: Readonly<Record<string, string>> = {},
): Promise<string[]> {
  const program = `
    import { connect } from "${ROOT}/shared/db/connect.ts";
    import { reasonOf } from "${ROOT}/shared/net-reason.ts";
    import { DatabaseSocket } from "${ROOT}/functions/database-socket.ts";
    const told = [];
    for (const { host, port, tls, ca } of ${JSON.stringify(attempts)}) {
      const url = "postgres://postgres@" + host + ":" + port + "/postgres";
      const socket = (target) => new DatabaseSocket(target);
      const sql = connect({ side: "target", url, tls, ca, poolSize: 1, idleTimeoutSeconds: 1, connectTimeoutSeconds: 3, applicationName: "t", socket });
      try {
        const [{ ssl, long }] = await sql.unsafe("select ssl, length(repeat('x', 300000)) as long, repeat('x', 300000) as x from pg_stat_ssl where pid = pg_backend_pid()");
        told.push(ssl ? "encrypted" : "plain");
      } catch (error) { told.push(reasonOf(error)); }
      await sql.end({ timeout: 1 });
    }
    console.log(JSON.stringify(told));`;
  return (await runOnDeno(release, program, env)) as string[];
}

/** What a long conversation over the functions' own socket was like. */
export interface Conversation {
  /** Bytes of a value that went to the server, and of one that came back, and whether both arrived as they left. */
  readonly sent: number;
  readonly received: number;
  readonly whole: boolean;
  /** From the first byte to the first answer: the median of ten connections. */
  readonly openMs: number;
}

/** Sends megabytes to a server and has them sent back, on Deno. */
export async function converseOnDeno(
  release: DenoRelease,
  { host, port, tls, ca }: Attempt,
  megabytes: number,
): Promise<Conversation> {
  const program = `
    import { connect } from "${ROOT}/shared/db/connect.ts";
    import { DatabaseSocket } from "${ROOT}/functions/database-socket.ts";
    import { createHash } from "node:crypto";
    const open = () => connect({ side: "target", url: "postgres://postgres@${host}:${port}/postgres", tls: "${tls}", ca: ${JSON.stringify(ca)},
      poolSize: 1, idleTimeoutSeconds: 5, connectTimeoutSeconds: 10, applicationName: "t", socket: (target) => new DatabaseSocket(target) });
    const took = [];
    for (let n = 0; n < 10; n++) {
      const sql = open();
      const began = performance.now();
      await sql.unsafe("select 1");
      took.push(performance.now() - began);
      await sql.end({ timeout: 1 });
    }
    const sql = open();
    // Not the same all over, so that a chunk that is lost, doubled or out of order shows.
    const value = Array.from({ length: ${megabytes} * 65536 }, (_, n) => String(n).padStart(15, "0") + ";").join("");
    const [row] = await sql.unsafe("select md5($1::text) as digest, $1::text || '' as back", [value]);
    const digest = createHash("md5").update(value).digest("hex");
    await sql.end({ timeout: 1 });
    console.log(JSON.stringify({ sent: value.length, received: row.back.length, whole: row.digest === digest && row.back === value,
      openMs: took.sort((a, b) => a - b)[5] }));`;
  return (await runOnDeno(release, program)) as Conversation;
}

/** What transactions of several connections, run at the same time on Deno over verified TLS, were like. */
export interface Transactions {
  /** Each had one backend and one transaction from its beginning to its end, its own settings, and its values whole. */
  readonly whole: boolean;
  /** Backends that they had between them. */
  readonly backends: number;
}

/** Runs transactions at the same time over the functions' own socket. */
export async function transactOnDeno(release: DenoRelease, { url, ca }: { url: string; ca: string }): Promise<Transactions> {
  const program = `
    import { connect } from "${ROOT}/shared/db/connect.ts";
    import { DatabaseSocket } from "${ROOT}/functions/database-socket.ts";
    const sql = connect({ side: "target", url: ${JSON.stringify(url)}, tls: "verify-full", ca: ${JSON.stringify(ca)},
      poolSize: 2, idleTimeoutSeconds: 5, connectTimeoutSeconds: 10, applicationName: "t", socket: (target) => new DatabaseSocket(target) });
    const value = "x".repeat(300000);
    const look = "select pg_backend_pid() as pid, txid_current()::text as id, current_setting('isthmus.n', true) as n, $1::text as back";
    const one = (n) => sql.begin(async (tx) => {
      await tx.unsafe("select set_config('isthmus.n', $1, true)", [String(n)]);
      const [a] = await tx.unsafe(look, [value]);
      await new Promise((later) => setTimeout(later, 20));
      const [b] = await tx.unsafe(look, [value]);
      return { pid: a.pid, whole: a.pid === b.pid && a.id === b.id && a.n === String(n) && b.n === a.n && a.back === value && b.back === value };
    });
    const told = await Promise.all(Array.from({ length: 8 }, (_, n) => one(n)));
    await sql.end({ timeout: 1 });
    console.log(JSON.stringify({ whole: told.every(({ whole }) => whole), backends: new Set(told.map(({ pid }) => pid)).size }));`;
  return (await runOnDeno(release, program)) as Transactions;
}

/** The values of one column of a table of the source, as the functions read them on Deno, by key: their UTF-16 code units. */
export async function readOnDeno(
  release: DenoRelease,
  url: string,
  { table, column, ids }: { readonly table: string; readonly column: string; readonly ids: readonly string[] },
): Promise<number[][]> {
  const program = `
    import { connect } from "${ROOT}/shared/db/connect.ts";
    import { readRecords } from "${ROOT}/shared/source/read-records.ts";
    import { defineEntity } from "${ROOT}/shared/entity/define-entity.ts";
    import { DatabaseSocket } from "${ROOT}/functions/database-socket.ts";
    const entity = defineEntity({ name: "things", target: { table: "fresh", legacyKey: "legacy_id" },
      source: { table: "${table}", key: "id", alias: "s", columns: { value: "s.${column}" }, ignored: {} },
      fields: (f) => ({ value: f.copy("value") }) });
    const sql = connect({ side: "source", url: ${JSON.stringify(url)}, tls: "disable", poolSize: 1, idleTimeoutSeconds: 1,
      connectTimeoutSeconds: 10, applicationName: "t", socket: (target) => new DatabaseSocket(target) });
    const { rows } = await readRecords(sql, entity, ${JSON.stringify(ids)}, 1000000);
    await sql.end({ timeout: 1 });
    console.log(JSON.stringify(rows.map(({ value }) => [...Array(value.length).keys()].map((n) => value.charCodeAt(n)))));`;
  return (await runOnDeno(release, program)) as number[][];
}

async function runOnDeno(release: DenoRelease, program: string, env: Readonly<Record<string, string>> = {}): Promise<unknown> {
  const config = join(ROOT, "functions/sync-page/deno.json");
  const flags = [
    "--quiet",
    "--no-lock",
    "--node-modules-dir=manual",
    `--config=${config}`,
    "--allow-net",
    "--allow-env",
    "--allow-read",
  ];
  const run = spawn(denoProgram(release), ["run", ...flags, "-"], {
    cwd: ROOT,
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  run.stdin.end(program);
  const [out, err] = await Promise.all([text(run.stdout), text(run.stderr)]);
  try {
    return JSON.parse(out) as unknown;
  } catch {
    throw new Error(err || out);
  }
}
