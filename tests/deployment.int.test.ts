import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { brotliCompressSync, constants } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { runSyncCli } from "../cli/program.ts";
import { denoProgram } from "../local/functions/deno.ts";
import { freePort } from "../local/ports.ts";
import { supabase } from "../cli/setup/supabase-cli.ts";
import { loadConfig } from "../shared/config.ts";
import { createTestTarget, workerUrl } from "./support/databases.ts";
import { startFakeManagementApi, unpack, type FakeManagementApi, type UploadedFunction } from "./support/fake-management-api.ts";
import { importGraph } from "./support/import-graph.ts";

const ROOT = resolve(import.meta.dirname, "..");
const FUNCTIONS = ["sync-page", "sync-tick", "sync-trigger"] as const;
/** What the platform takes of a bundle that it builds itself. */
const CAP_BYTES = 5 * 1024 * 1024;
const importMap = z.object({ imports: z.record(z.string(), z.string()) });
const DENO = denoProgram();
const DENO_FLAGS = ["--quiet", "--no-lock", "--node-modules-dir=none"];
const run = promisify(execFile);

let api: FakeManagementApi;
beforeAll(async () => {
  api = await startFakeManagementApi();
  await supabase(["functions", "deploy", "--use-api", "--yes", `--remote=${api.projectRef}`], api.env);
});
afterAll(() => api[Symbol.asyncDispose]());

const uploaded = (name: string): UploadedFunction => {
  const upload = api.uploads.get(name);
  if (!upload) throw new Error(`${name} was not uploaded; requests: ${api.requests.join(", ")}`);
  return upload;
};

describe("supabase functions deploy --use-api", () => {
  it("uploads the three functions and publishes them", () => {
    expect([...api.uploads.keys()].sort()).toEqual([...FUNCTIONS]);
    expect(
      api
        .published()
        .map(({ slug, status }) => `${slug} ${status}`)
        .sort(),
    ).toEqual(FUNCTIONS.map((name) => `${name} ACTIVE`));
  });

  it("is refused with a wrong token, and then nothing is uploaded", async () => {
    await using other = await startFakeManagementApi();
    const env = { ...other.env, SUPABASE_ACCESS_TOKEN: `sbp_${"0".repeat(40)}` };
    await expect(supabase(["functions", "deploy", "--use-api", "--yes", `--remote=${other.projectRef}`], env)).rejects.toThrow(
      /Unauthorized|401/,
    );
    expect(other.uploads.size).toBe(0);
  });

  describe.each(FUNCTIONS)("%s", (name) => {
    it("has its entrypoint and import map, and leaves authentication to the code", () => {
      expect(uploaded(name).metadata).toMatchObject({
        name,
        entrypoint_path: `functions/${name}/index.ts`,
        import_map_path: `functions/${name}/deno.json`,
        verify_jwt: false,
        static_patterns: [],
      });
    });

    it("contains exactly the files that its entrypoint imports, with their present content", () => {
      const { files } = importGraph(ROOT, `functions/${name}/index.ts`);
      const expected = [...files, `functions/${name}/deno.json`].sort();
      expect(expected).toEqual(expect.arrayContaining([`functions/${name}/handler.ts`, "shared/context.ts"]));
      expect([...uploaded(name).files.keys()].sort()).toEqual(expected);
      for (const [path, content] of uploaded(name).files) {
        expect(content.equals(readFileSync(join(ROOT, path))), path).toBe(true);
      }
    });

    it("finds every package it imports in its import map, at one exact version", () => {
      const { imports } = importMap.parse(JSON.parse(uploaded(name).files.get(`functions/${name}/deno.json`)?.toString() ?? ""));
      for (const specifier of importGraph(ROOT, `functions/${name}/index.ts`).packages) {
        if (specifier.startsWith("node:")) continue;
        const key = Object.keys(imports).find((k) => k === specifier || (k.endsWith("/") && specifier.startsWith(k)));
        expect(key, `${specifier} is not in functions/${name}/deno.json`).toBeDefined();
        expect(imports[key ?? ""]).toMatch(/^npm:.+@\d+\.\d+\.\d+\/?$/);
      }
    });

    it("stays under the cap of 5 MB, even if the platform kept every file of its packages, compressed one by one", async () => {
      const { requestBytes, files } = uploaded(name);
      const packages = await packageBytes(name);
      const [kb, mb] = [Math.ceil(requestBytes / 1024), (packages / 1024 / 1024).toFixed(1)];
      process.stdout.write(`  ${name}: ${files.size} files, ${kb} KB uploaded; packages at most ${mb} MB\n`);
      expect(packages).toBeGreaterThan(requestBytes);
      measured.push({ kb, mb: Number(mb) });
      expect(requestBytes + packages).toBeLessThan(CAP_BYTES);
    });
  });
});

describe("the uploaded files alone", () => {
  it.each(FUNCTIONS)("%s type-checks on Deno", async (name) => {
    await inFolder(name, async (folder) => {
      await run(DENO, ["check", ...DENO_FLAGS, `--config=functions/${name}/deno.json`, `functions/${name}/index.ts`], {
        cwd: folder,
        env: denoEnv(),
      });
    });
  });

  it.each([
    { name: "sync-trigger", method: "GET", body: undefined, status: 200, says: { executions: [] } },
    { name: "sync-page", method: "POST", body: "{}", status: 400, says: { error: { code: "REQUEST_INVALID" } } },
    { name: "sync-tick", method: "GET", body: undefined, status: 405, says: { error: { code: "METHOD_NOT_ALLOWED" } } },
  ])("$name starts and answers a machine with $status, a stranger with 401", async ({ name, method, body, status, says }) => {
    await using target = await createTestTarget();
    await inFolder(name, async (folder) => {
      await using served = await serve(folder, name, workerUrl(target));
      const init = { method, ...(body === undefined ? {} : { body }) };
      const answer = await fetch(served.url, { ...init, headers: { apikey: served.secretKey } });
      expect(await answer.json()).toMatchObject(says);
      expect(answer.status).toBe(status);
      const stranger = await fetch(served.url, { method: "POST", body: "{}", headers: { apikey: "sb_publishable_x" } });
      expect(await stranger.json()).toMatchObject({ error: { code: "UNAUTHENTICATED" } });
      expect(stranger.status).toBe(401);
    });
  });
});

/** What the test above has seen of each function. */
const measured: { kb: number; mb: number }[] = [];

describe("docs/deployment.md", () => {
  const page = readFileSync(join(ROOT, "docs/deployment.md"), "utf8");
  const reference = readFileSync(join(ROOT, "docs/reference.md"), "utf8");
  const table =
    page.slice(page.indexOf("| variable"), page.indexOf("\n## 6. ")) + reference.slice(reference.indexOf("\n## Settings"));
  const rows = new Map([...table.matchAll(/^\| `([A-Z_]+)` +\| (.+?) +\|/gm)].map((row) => [row[1] ?? "", row[2] ?? ""]));

  it("lists each variable of the configuration with its default, those of sizes and times in the reference", () => {
    const source = readFileSync(join(ROOT, "shared/config.ts"), "utf8");
    const names = [...source.matchAll(/^ {2}([A-Z][A-Z_]+):/gm)].map((variable) => variable[1] ?? "");
    const minimal = {
      SOURCE_DB_URL: "postgres://a/b",
      TARGET_DB_URL: "postgres://a/b",
      SUPABASE_URL: "https://a.invalid",
      SUPABASE_SECRET_KEYS: "{}",
      SUPABASE_PUBLISHABLE_KEYS: "{}",
      QSTASH_TOKEN: "a",
      QSTASH_CURRENT_SIGNING_KEY: "a",
      QSTASH_NEXT_SIGNING_KEY: "a",
    };
    const config: Readonly<Record<string, string | number | Readonly<Record<string, string>> | undefined>> = loadConfig(minimal);
    expect([...rows.keys()].filter((name) => names.includes(name))).toEqual(names);
    for (const name of names) {
      const value = config[name];
      const said = rows.get(name) ?? "";
      if (name in minimal) expect(said, name).toBe(name.startsWith("SUPABASE_") ? "set by the platform" : "required");
      else if (name === "FUNCTIONS_URL") expect(said).toBe("`SUPABASE_URL` + `/functions/v1`");
      else if (name === "ISTHMUS_TOKEN_ISSUER") expect(said).toBe("`SUPABASE_URL` + `/auth/v1`");
      else if (value === undefined) expect(said, name).toBe(name.startsWith("SUPABASE_") ? "set by the platform" : "none");
      else expect(said, name).toBe(`\`${JSON.stringify(value).replaceAll('"', "")}\``);
    }
  });

  it("states the sizes that were measured, within a tenth", () => {
    const said = /uploaded as (\d+) KB .*?compressed one by one, are ([\d.]+) MB/s.exec(page);
    expect(measured).toHaveLength(FUNCTIONS.length);
    for (const [stated, most] of [
      [Number(said?.[1]), Math.max(...measured.map(({ kb }) => kb))],
      [Number(said?.[2]), Math.max(...measured.map(({ mb }) => mb))],
    ] as const)
      expect(Math.abs(stated - most) / most).toBeLessThan(0.1);
  });

  it("names only commands of `npm run sync` and npm scripts that exist", async () => {
    const guides =
      page + ["docs/reference.md", "docs/runbook.md"].map((file) => readFileSync(join(ROOT, file), "utf8")).join("\n");
    const commands = [...guides.matchAll(/npm run (?:--silent )?sync -- ([a-z-]+)/g)].map((command) => command[1] ?? "");
    let help = "";
    const terminal = { env: {}, err: () => undefined, interactive: false, pause: () => Promise.resolve() };
    await runSyncCli(["--help"], { ...terminal, out: (text) => (help += text) });
    expect(commands.length).toBeGreaterThan(5);
    for (const command of new Set(commands)) expect(help).toMatch(new RegExp(`^ {2}${command} `, "m"));
  });
});

const denoInfo = z.object({
  npmCache: z.string().optional(),
  npmPackages: z.record(z.string(), z.object({ name: z.string(), version: z.string() })).optional(),
});
const compressed = new Map<string, number>();

/** Size of all packages that a function loads, with types, maps and whatever else they bring. */
async function packageBytes(name: string): Promise<number> {
  const info = async (args: readonly string[]) =>
    denoInfo.parse(
      JSON.parse((await run(DENO, ["info", "--json", ...args], { cwd: ROOT, env: denoEnv(), maxBuffer: CAP_BYTES * 4 })).stdout),
    );
  const { npmCache = "" } = await info([]);
  const { npmPackages = {} } = await info([
    ...DENO_FLAGS.slice(1),
    `--config=functions/${name}/deno.json`,
    `functions/${name}/index.ts`,
  ]);
  const registries = readdirSync(npmCache);
  let bytes = 0;
  for (const { name: packageName, version } of Object.values(npmPackages)) {
    const folder = registries.map((registry) => join(npmCache, registry, packageName, version)).find((path) => existsSync(path));
    if (folder === undefined) throw new Error(`${packageName} ${version} is not in Deno's cache ${npmCache}`);
    bytes += compressed.get(folder) ?? 0;
    if (compressed.has(folder)) continue;
    const size = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .reduce((sum, entry) => sum + brotli(readFileSync(join(entry.parentPath, entry.name))), 0);
    compressed.set(folder, size);
    bytes += size;
  }
  return bytes;
}

function brotli(content: Buffer): number {
  return brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }).length;
}

/** A folder with the upload of one function and nothing else; Deno fetches the pinned packages as the platform does. */
async function inFolder(name: string, work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-deployed-"));
  try {
    unpack(uploaded(name), folder);
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Serves an unpacked function; it can read that folder only. */
async function serve(folder: string, name: string, targetUrl: string) {
  const port = await freePort();
  const secretKey = `sb_secret_${randomBytes(24).toString("base64url")}`;
  const args = ["run", ...DENO_FLAGS, "--no-prompt", "--allow-net", "--allow-env", `--allow-read=${folder}`];
  // The runtime gives a function its address; this Deno knows no variable for it.
  writeFileSync(
    join(folder, "serve.ts"),
    `const serve = Deno.serve.bind(Deno);
     Object.defineProperty(Deno, "serve", {
       value: (handler: Deno.ServeHandler) => serve({ hostname: "127.0.0.1", port: ${port} }, handler),
     });
     await import("./functions/${name}/index.ts");`,
  );
  const child = spawn(DENO, [...args, `--config=functions/${name}/deno.json`, "serve.ts"], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...denoEnv(),
      SOURCE_DB_URL: "postgres://isthmus_reader@legacy.invalid/legacy",
      TARGET_DB_URL: targetUrl,
      SUPABASE_URL: "https://project.invalid",
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: secretKey }),
      SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: "sb_publishable_x" }),
      QSTASH_TOKEN: "unused",
      QSTASH_CURRENT_SIGNING_KEY: "unused",
      QSTASH_NEXT_SIGNING_KEY: "unused",
    },
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const exited = new Promise<void>((done) => child.once("exit", () => done()));
  const deadline = Date.now() + 60_000;
  while (!(await accepts(port))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(`${name} does not listen:\n${output}`);
    }
    await new Promise((later) => setTimeout(later, 50));
  }
  return {
    url: `http://127.0.0.1:${port}/`,
    secretKey,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

function accepts(port: number): Promise<boolean> {
  return new Promise((answer) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => answer(true)).once("error", () => answer(false));
    socket.once("connect", () => socket.destroy());
  });
}

function denoEnv(): Record<string, string> {
  const { PATH = "", HOME = "", DENO_DIR } = process.env;
  // The machine's own authorities as well: a company's proxy is in no other list.
  const tls = { DENO_TLS_CA_STORE: "mozilla,system" };
  return { PATH, HOME, ...tls, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", ...(DENO_DIR === undefined ? {} : { DENO_DIR }) };
}
