import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { expect, it } from "vitest";
import { startFakeManagementApi } from "./support/fake-management-api.ts";

const ROOT = resolve(import.meta.dirname, "..");
const DEPLOY = `
  import { supabase } from "./local/cli/setup/supabase-cli.ts";
  const { REF, SUPABASE_ACCESS_TOKEN, SUPABASE_PROFILE } = process.env;
  await supabase(["functions", "deploy", "--use-api", "--yes", "--remote=" + REF], { SUPABASE_ACCESS_TOKEN, SUPABASE_PROFILE });`;

it("Ctrl-C while the CLI deploys ends the CLI, too, and its child processes", { timeout: 120_000 }, async () => {
  await using api = await startFakeManagementApi();
  const asked = new Promise<void>((told) => {
    api.meanwhile.set(/POST .*functions\/deploy/, () => {
      told();
      return new Promise(() => undefined);
    });
  });
  /** Every process of the CLI has the project's name among its arguments. */
  const running = () => spawnSync("pgrep", ["-f", api.projectRef]).stdout.toString().trim();
  // A process group of its own, as a terminal makes one: Ctrl-C reaches all that is in it.
  const setup = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", DEPLOY], {
    cwd: ROOT,
    detached: true,
    stdio: "ignore",
    env: { PATH: process.env["PATH"], REF: api.projectRef, ...api.env },
  });
  const ended = once(setup, "exit");
  await Promise.race([asked, ended]);
  expect(running()).not.toBe("");
  process.kill(-(setup.pid ?? 0), "SIGINT");
  expect(await ended).toEqual([null, "SIGINT"]);
  await expect.poll(running, { timeout: 10_000 }).toBe("");
  expect(api.published()).toEqual([]);
});
