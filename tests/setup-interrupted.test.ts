import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { startFakeManagementApi, type FakeManagementApi } from "./support/fake-management-api.ts";

const ROOT = resolve(import.meta.dirname, "..");
const DEPLOY = `
  import { supabase } from "./cli/setup/supabase-cli.ts";
  const { REF, SUPABASE_ACCESS_TOKEN, SUPABASE_PROFILE } = process.env;
  await supabase(["functions", "deploy", "--use-api", "--yes", "--remote=" + REF], { SUPABASE_ACCESS_TOKEN, SUPABASE_PROFILE });`;

/** Every process of the CLI has the project's name among its arguments. */
const running = (api: FakeManagementApi) => spawnSync("pgrep", ["-f", api.projectRef]).stdout.toString().trim();

/** A folder for temporary files of a test's own. */
function temporaryFolder() {
  const path = mkdtempSync(join(tmpdir(), "isthmus-interrupted-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Copies of the sources that runs have made. tsx keeps its own cache there. */
const copies = (temporary: string) => readdirSync(temporary).filter((name) => !name.startsWith("tsx-"));

/** Deploys as setup does, in a process group of its own, as a terminal makes one. */
function deploy(api: FakeManagementApi, temporary: string) {
  const setup = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", DEPLOY], {
    cwd: ROOT,
    detached: true,
    stdio: "ignore",
    env: { PATH: process.env["PATH"], TMPDIR: temporary, REF: api.projectRef, ...api.env },
  });
  return { pid: setup.pid ?? 0, ended: once(setup, "exit") };
}

/** Deploys until the first function is uploaded: the platform answers when told. */
async function deployHalfway(api: FakeManagementApi, temporary: string) {
  let answer: () => void = () => undefined;
  const asked = new Promise<void>((told) => {
    api.meanwhile.set(/POST .*functions\/deploy/, () => {
      told();
      return new Promise((answered) => (answer = answered));
    });
  });
  const setup = deploy(api, temporary);
  await Promise.race([asked, setup.ended]);
  expect(running(api)).not.toBe("");
  return { ...setup, answer: () => answer() };
}

describe("while the CLI deploys", { timeout: 120_000 }, () => {
  it.each([
    { what: "Ctrl-C", signal: "SIGINT", whole: true },
    { what: "the end of setup's terminal", signal: "SIGHUP", whole: true },
    { what: "a signal to setup alone", signal: "SIGTERM", whole: false },
  ] as const)("$what ends the CLI, too, and its child processes, and leaves nothing behind", async ({ signal, whole }) => {
    await using api = await startFakeManagementApi();
    using temporary = temporaryFolder();
    const setup = await deployHalfway(api, temporary.path);
    process.kill(whole ? -setup.pid : setup.pid, signal);
    expect(await setup.ended).toEqual([null, signal]);
    await expect.poll(() => running(api), { timeout: 10_000 }).toBe("");
    expect(api.published()).toEqual([]);
    expect(copies(temporary.path)).toEqual([]);
  });

  it("a kill ends the CLI, too, and leaves a copy of the sources; the next run takes the copy away and deploys all", async () => {
    await using api = await startFakeManagementApi();
    using temporary = temporaryFolder();
    const setup = await deployHalfway(api, temporary.path);
    process.kill(setup.pid, "SIGKILL");
    expect(await setup.ended).toEqual([null, "SIGKILL"]);
    await expect.poll(() => running(api), { timeout: 10_000 }).toBe("");
    api.meanwhile.clear();
    setup.answer();
    expect(api.published()).toEqual([]);
    expect(copies(temporary.path)).toEqual([expect.stringMatching(/^isthmus-supabase-\d+-/)]);
    const next = deploy(api, temporary.path);
    expect(await next.ended).toEqual([0, null]);
    expect(copies(temporary.path)).toEqual([]);
    expect(
      api
        .published()
        .map(({ slug, status }) => `${slug} ${status}`)
        .sort(),
    ).toEqual(["sync-page ACTIVE", "sync-tick ACTIVE", "sync-trigger ACTIVE"]);
  });
});
