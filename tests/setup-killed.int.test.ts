import { spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
import { Random } from "../clinic/dataset/random.ts";
import { migrations } from "../local/cli/setup/schema-history.ts";
import { applicationState } from "./support/application-state.ts";
import { startRehearsal, type Rehearsal } from "./support/rehearsal.ts";

const SEED = Number(process.env["ISTHMUS_KILL_SEED"] ?? 1);
/** Every step that does something, and how long it may take on a machine that has nothing else to do. */
const STEPS: ReadonlyMap<string, number> = new Map([
  ["queue and cache", 50],
  ["schema", 3_000],
  ["worker", 200],
  ["rights", 500],
  ["secret key", 50],
  ["secrets", 50],
  ["functions", 4_000],
  ["Vault", 50],
]);

/**
 * Runs setup as a process of its own, and kills it some time after the first of these steps has begun, at the latest when that step is done.
 * @returns that step; none when setup came to its end.
 */
async function killed(
  project: Rehearsal,
  steps: ReadonlySet<string>,
  afterMs: (step: string) => number,
): Promise<string | undefined> {
  const setup = spawn(
    process.execPath,
    ["--import", "tsx", "local/sync-cli.ts", "--env-file", project.envFile, "setup", "--yes"],
    {
      cwd: resolve(import.meta.dirname, ".."),
      stdio: ["ignore", "ignore", "pipe"],
      // What a killed run leaves in the folder for temporary files goes with the test's.
      env: { PATH: process.env["PATH"], TMPDIR: project.folder },
    },
  );
  const ended = once(setup, "exit");
  let said = "";
  let step: string | undefined;
  setup.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
    if (step === undefined) {
      step = [...said.matchAll(/^ {2}\.{3} {3}(\S.*?) {2}/gm)].map(([, title = ""]) => title).find((title) => steps.has(title));
      if (step !== undefined) setTimeout(() => setup.kill("SIGKILL"), afterMs(step));
    } else if (said.includes(`\n  ok    ${step} `)) setup.kill("SIGKILL");
  });
  await ended;
  return step;
}

it(
  `setup that is killed in the middle of each of its steps goes on, and leaves nothing twice (seed ${SEED})`,
  { timeout: 600_000 },
  async () => {
    await using project = await startRehearsal("setup-killed");
    const before = await applicationState(project.admin);
    const random = Random.for(SEED, "kills");
    const kills: string[] = [];
    const left = new Set(STEPS.keys());
    for (;;) {
      const step = await killed(project, left, (begun) => {
        const afterMs = random.between(0, STEPS.get(begun) ?? 0);
        kills.push(`${begun} after ${afterMs} ms`);
        return afterMs;
      });
      if (step === undefined) break;
      left.delete(step);
    }
    process.stdout.write(`  killed: ${kills.join(", ")}\n`);
    // A run that is killed a moment late may have begun the next step, and have done it.
    expect(kills.length).toBeGreaterThan(5);

    const { err, out } = await project.sync("setup", "--yes");
    expect(err).toMatch(/source, target and queue answer the functions; both catalogs fit/);
    expect(out, err).toMatch(/^Done\. Left to you:/);
    const [history] = await project.admin<
      { n: number; names: number }[]
    >`select count(*)::int as n, count(distinct version)::int as names from sync.installed where part = 'migration'`;
    expect(history).toEqual({ n: migrations().length, names: migrations().length });
    const keys = project.api.keys.filter(({ name }) => name.startsWith("isthmus_"));
    expect(keys.map(({ api_key: key }) => key)).toEqual([project.env()["ISTHMUS_API_KEY"]]);
    expect(project.api.secrets.get("TARGET_DB_URL")).toBe(project.env()["TARGET_DB_URL"]);
    expect(project.api.uploads.size).toBe(3);

    const backup = join(project.folder, "mappings.csv");
    const back = await project.sync("uninstall", "--backup", backup, "--yes");
    expect(back.code, back.err).toBe(0);
    expect(await applicationState(project.admin)).toEqual(before);
    expect([...project.api.secrets.keys()]).toEqual(["QSTASH_TOKEN"]);
    expect(project.api.keys.map(({ name }) => name)).toEqual(["default", "default", "isthmus"]);
  },
);
