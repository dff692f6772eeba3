import { spawnSync } from "node:child_process";
import { readFileSync, statSync, utimesSync } from "node:fs";
import { resolve } from "node:path";
import { expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const BUILT = resolve(ROOT, ".local/cli/isthmus.mjs");
/** Says at the end how much processor time the process took, in microseconds. */
const METER = "data:text/javascript,process.on('exit',()=>console.error(process.cpuUsage().user))";

function start(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", METER, ...args], { cwd: ROOT, encoding: "utf8" });
  return { status, stdout, cpuMs: Number(stderr.trim().split("\n").at(-1)) / 1_000 };
}
const help = () => start("cli/isthmus.mjs", "--help");

it("starts from one built file, which is built again when one of its parts is newer", { timeout: 60_000 }, () => {
  expect(help()).toMatchObject({ status: 0, stdout: expect.stringContaining("Usage: sync") as string });
  const before = readFileSync(BUILT, "utf8");
  const since = statSync(BUILT).mtimeMs;
  expect(help().status).toBe(0);
  expect(statSync(BUILT).mtimeMs).toBe(since);

  utimesSync(BUILT, 0, 0);
  expect(help().status).toBe(0);
  expect(statSync(BUILT).mtimeMs).toBeGreaterThanOrEqual(since);
  expect(readFileSync(BUILT, "utf8")).toBe(before);
});

it("starts in a fraction of a second", { timeout: 60_000 }, () => {
  help();
  // Loading the parts one by one takes a second more than Node itself.
  const took = Math.min(...[1, 2, 3].map(() => help().cpuMs));
  expect(took - Math.min(...[1, 2, 3].map(() => start("-e", "0").cpuMs))).toBeLessThan(500);
});
