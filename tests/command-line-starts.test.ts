import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const BUILT = resolve(ROOT, ".local/cli/isthmus.mjs");
/** Says at the end how much processor time the process took, in microseconds. */
const METER = "data:text/javascript,process.on('exit',()=>console.error(process.cpuUsage().user))";

function start(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", METER, ...args], { cwd: ROOT, encoding: "utf8" });
  return { status, stdout, cpuMs: Number(stderr.trim().split("\n").at(-1)) / 1_000 };
}

/** The same three times, beside a server of this process. */
async function thrice(args: readonly string[], url: string): Promise<{ status: number | null; cpuMs: number }[]> {
  const found = [];
  for (let n = 0; n < 3; n++) {
    const child = spawn(process.execPath, ["--import", METER, ...args], {
      cwd: ROOT,
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env["PATH"] ?? "", FUNCTIONS_URL: url, ISTHMUS_API_KEY: "sb_secret_x" },
    });
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
    const [status] = (await once(child, "close")) as [number | null];
    found.push({ status, cpuMs: Number(said.trim().split("\n").at(-1)) / 1_000 });
  }
  return found;
}

const help = () => start("cli/isthmus.mjs", "--help");

it("starts from one built file, which is built again when one of its parts is newer", { timeout: 60_000 }, () => {
  expect(help()).toMatchObject({ status: 0, stdout: expect.stringContaining("Usage: isthmus") as string });
  const before = readFileSync(BUILT, "utf8");
  const since = statSync(BUILT).mtimeMs;
  expect(help().status).toBe(0);
  expect(statSync(BUILT).mtimeMs).toBe(since);

  utimesSync(BUILT, 0, 0);
  expect(help().status).toBe(0);
  expect(statSync(BUILT).mtimeMs).toBeGreaterThanOrEqual(since);
  expect(readFileSync(BUILT, "utf8")).toBe(before);
});

it("is one program, isthmus, wherever it is linked to and called from", { timeout: 60_000 }, () => {
  const { bin } = JSON.parse(readFileSync(resolve(ROOT, "package.json"), "utf8")) as { bin: { isthmus: string } };
  const elsewhere = mkdtempSync(join(tmpdir(), "isthmus-bin-"));
  try {
    symlinkSync(resolve(ROOT, bin.isthmus), join(elsewhere, "isthmus"));
    const PATH = `${elsewhere}:${process.env["PATH"] ?? ""}`;
    const { status, stdout } = spawnSync("isthmus", ["--help"], { cwd: elsewhere, encoding: "utf8", env: { PATH } });
    expect({ status, stdout }).toMatchObject({ status: 0, stdout: expect.stringContaining("Usage: isthmus") as string });
  } finally {
    rmSync(elsewhere, { recursive: true });
  }
});

it("says what to do where it cannot be built", { timeout: 60_000 }, () => {
  const bare = mkdtempSync(join(tmpdir(), "isthmus-bare-"));
  try {
    mkdirSync(join(bare, "cli"));
    copyFileSync(resolve(ROOT, "cli/isthmus.mjs"), join(bare, "cli/isthmus.mjs"));
    const { status, stdout, stderr } = spawnSync(process.execPath, ["cli/isthmus.mjs"], { cwd: bare, encoding: "utf8" });
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(/^BUILD_FAILED: The command line cannot be built: .*esbuild.*\n {2}What to do: npm install in /);
  } finally {
    rmSync(bare, { recursive: true });
  }
});

/** Answers as functions that have never begun anything do. */
async function withoutExecutions(use: (url: string) => Promise<void>): Promise<void> {
  const server = createServer((_, answer) => void answer.setHeader("content-type", "application/json").end('{"executions":[]}'));
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  try {
    await use(`http://127.0.0.1:${port}`);
  } finally {
    server.close();
  }
}

it("starts in a fraction of a second, also with a call of a function", { timeout: 60_000 }, async () => {
  help();
  await withoutExecutions(async (url) => {
    const bare = Math.min(...(await thrice(["-e", "0"], url)).map(({ cpuMs }) => cpuMs));
    for (const [status, ...command] of [
      [0, "--help"],
      [0, "executions"],
      [1, "status"],
    ] as const) {
      // Loading the parts one by one takes a second more than Node itself.
      const took = await thrice(["cli/isthmus.mjs", ...command], url);
      expect(took.map((one) => one.status)).toEqual([status, status, status]);
      expect(Math.min(...took.map(({ cpuMs }) => cpuMs)) - bare).toBeLessThan(300);
    }
  });
});
