import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { checkout } from "./support/checkout.ts";

const ROOT = resolve(import.meta.dirname, "..");
/** The commands of README that need no account of a hosted project, in its order, as they stand there. */
const COMMANDS = [...readFileSync(resolve(ROOT, "README.md"), "utf8").matchAll(/^```sh\n(.*?)^```$/gms)]
  .flatMap(([, block = ""]) => block.split("\n"))
  .map((line) => line.replace(/ +#.*$/, ""))
  .filter((line) => line.startsWith("npm run sync -- ") && !line.startsWith("npm run sync -- setup "));

const outside = mkdtempSync(join(tmpdir(), "isthmus-readme-"));
/** Where a reader stands who has cloned the project. */
const inside = join(outside, "isthmus");
let demo: ReturnType<typeof spawn>;
let printed = "";

beforeAll(async () => {
  mkdirSync(inside);
  checkout(inside, {});
  symlinkSync(join(inside, ".local/demo/isthmus.env"), join(outside, "isthmus.env"));
  const options = ["--keep", "--scale", "0.02", "--data", join(inside, ".local/demo")];
  demo = spawn(process.execPath, ["--import", "tsx", "local/demo.ts", ...options], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  for (const stream of [demo.stdout, demo.stderr]) stream?.setEncoding("utf8").on("data", (text: string) => (printed += text));
  while (!printed.includes("Everything stays up")) {
    if (demo.exitCode !== null) throw new Error(`The demo has ended: ${printed}`);
    await new Promise((soon) => setTimeout(soon, 50));
  }
  // An installation is proposed from two databases before anything of ours is there: by whoever owns the target.
  const url = (name: string) => new RegExp(`${name} .*psql (postgres://\\S+)`).exec(printed)?.[1] ?? "";
  writeFileSync(join(outside, "databases.env"), `SOURCE_DB_URL="${url("source")}"\nTARGET_DB_URL="${url("target")}"\n`);
}, 300_000);

afterAll(async () => {
  if (demo.exitCode === null) {
    demo.kill("SIGINT");
    await once(demo, "close");
  }
  rmSync(outside, { recursive: true, force: true });
}, 60_000);

function inShell(command: string): Promise<{ code: number; out: string; err: string }> {
  const env = { PATH: process.env["PATH"] ?? "", HOME: outside };
  return new Promise((done) => {
    execFile("sh", ["-c", command], { cwd: inside, env }, (error, out, err) =>
      done({ code: error === null ? 0 : typeof error.code === "number" ? error.code : -1, out, err }),
    );
  });
}

/** What each shows, so that a command that does nothing is noticed. */
const SHOWN: Readonly<Record<string, RegExp>> = {
  check: /Both catalogs fit every entity/,
  executions: /succeeded/,
  queue: /^patients +(open|waiting) /m,
  init: /my-company/,
  plan: /Nothing was written/,
  start: /^Execution [0-9a-f-]{36}(?: has begun|: succeeded$)/m,
  status: /^Execution [0-9a-f-]{36}: succeeded$/m,
  pause: /paused/,
  alerts: /alert/,
};

it("the demo names the command that its file connects", () => {
  expect(printed).toMatch(/command line +npm run sync -- check --env-file \S+\.local\/demo\/isthmus\.env$/m);
});

it("README has commands of every kind", () => {
  expect(COMMANDS.length).toBeGreaterThan(8);
  expect(new Set(COMMANDS.map((command) => command.split(" ")[4] ?? ""))).toEqual(new Set(Object.keys(SHOWN)));
});

it.each(COMMANDS)("%s", { timeout: 120_000 }, async (command) => {
  const { code, out, err } = await inShell(command);
  expect({ code, said: code === 0 ? "" : err + out }).toEqual({ code: 0, said: "" });
  expect(out).toMatch(SHOWN[command.split(" ")[4] ?? ""] ?? /^$/);
});
