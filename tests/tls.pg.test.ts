import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../local/ports.ts";
import { connect } from "../shared/db/connect.ts";

const BIN = "/usr/lib/postgresql/15/bin";
const NOBODY = 65_534;
const ROOT = resolve(import.meta.dirname, "..");

describe("TLS to a database", () => {
  let folder: string;
  let server: ChildProcess;
  let port: number;
  let ca: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "isthmus-tls-"));
    const asRoot = process.getuid?.() === 0;
    if (asRoot) chownSync(folder, NOBODY, NOBODY);
    const as = asRoot ? { uid: NOBODY, gid: NOBODY } : {};
    const must = (program: string, ...args: string[]) => {
      const result = spawnSync(program, args, { ...as, encoding: "utf8" });
      if (result.status !== 0) throw new Error(`${program}: ${result.error?.message ?? result.stderr}`);
    };
    must(
      "openssl",
      "req",
      "-x509",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=localhost",
      "-addext",
      "subjectAltName=DNS:localhost",
      "-keyout",
      join(folder, "key"),
      "-out",
      join(folder, "cert"),
    );
    chmodSync(join(folder, "key"), 0o600);
    ca = readFileSync(join(folder, "cert"), "utf8");
    must(join(BIN, "initdb"), "-D", join(folder, "data"), "-U", "postgres", "--auth=trust", "--locale=C");
    port = await freePort();
    const settings = {
      port,
      listen_addresses: "localhost",
      unix_socket_directories: "",
      ssl: "on",
      ssl_cert_file: join(folder, "cert"),
      ssl_key_file: join(folder, "key"),
    };
    server = spawn(
      join(BIN, "postgres"),
      ["-D", join(folder, "data"), ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`])],
      { ...as, stdio: "ignore" },
    );
    for (let tries = 0; (await encrypted("localhost", "disable")) === "refused"; tries++) {
      if (tries > 200) throw new Error("the server did not start");
      await new Promise((again) => setTimeout(again, 50));
    }
  });
  afterAll(async () => {
    server.kill("SIGQUIT");
    await new Promise<void>((gone) => server.once("exit", () => gone()));
    rmSync(folder, { recursive: true, force: true });
  });

  async function encrypted(host: string, tls: "verify-full" | "require" | "disable", authority?: string): Promise<string> {
    const sql = connect({
      side: "target",
      url: `postgres://postgres@${host}:${port}/postgres`,
      tls,
      ca: authority,
      poolSize: 1,
      idleTimeoutSeconds: 1,
      connectTimeoutSeconds: 5,
      applicationName: "test",
    });
    try {
      const [row] = await sql.unsafe<{ ssl: boolean }[]>("select ssl from pg_stat_ssl where pid = pg_backend_pid()");
      return row?.ssl === true ? "encrypted" : "plain";
    } catch {
      return "refused";
    } finally {
      await sql.end({ timeout: 1 });
    }
  }

  it("verify-full accepts the authority it was given, and the name on the certificate", async () => {
    expect(await encrypted("localhost", "verify-full", ca)).toBe("encrypted");
  });
  it("verify-full refuses another name", async () => {
    expect(await encrypted("127.0.0.1", "verify-full", ca)).toBe("refused");
  });
  it("verify-full refuses another authority", async () => {
    spawnSync("openssl", [
      "req",
      "-x509",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=other",
      "-keyout",
      join(folder, "k2"),
      "-out",
      join(folder, "c2"),
    ]);
    expect(await encrypted("localhost", "verify-full", readFileSync(join(folder, "c2"), "utf8"))).toBe("refused");
  });
  it("require encrypts without verifying", async () => {
    expect(await encrypted("127.0.0.1", "require", ca)).toBe("encrypted");
  });
  it("disable stays plain", async () => {
    expect(await encrypted("localhost", "disable", ca)).toBe("plain");
  });

  it("works in Deno over the functions' own socket as well", () => {
    const program = `
      import { connect as tcp } from "node:net";
      import { connect } from "${ROOT}/shared/db/connect.ts";
      const socket = (host, port) => { const s = tcp({ host, port }); s.setNoDelay(true); return s; };
      for (const [host, tls] of [["localhost", "verify-full"], ["127.0.0.1", "verify-full"]]) {
        const sql = connect({ side: "target", url: "postgres://postgres@" + host + ":${port}/postgres", tls, ca: Deno.env.get("CA"), poolSize: 1, idleTimeoutSeconds: 1, connectTimeoutSeconds: 5, applicationName: "t", socket });
        try { console.log((await sql.unsafe("select ssl from pg_stat_ssl where pid = pg_backend_pid()"))[0].ssl); } catch { console.log("refused"); }
        await sql.end({ timeout: 1 });
      }`;
    const run = spawnSync(
      join(ROOT, "node_modules/.bin/deno"),
      [
        "run",
        "--quiet",
        "--no-lock",
        "--node-modules-dir=manual",
        `--config=${join(ROOT, "functions/sync-page/deno.json")}`,
        "--allow-net",
        "--allow-env",
        "--allow-read",
        "-",
      ],
      { input: program, encoding: "utf8", cwd: ROOT, env: { ...process.env, CA: ca } },
    );
    expect(run.stdout.trim().split("\n"), run.stderr).toEqual(["true", "refused"]);
  });
});
