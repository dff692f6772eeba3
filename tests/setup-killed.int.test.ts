import { join } from "node:path";
import { expect, it } from "vitest";
import { migrations } from "../cli/setup/schema-history.ts";
import { applicationState } from "./support/application-state.ts";
import { killedInEach, type Moment } from "./support/killed-command.ts";
import { startRehearsal } from "./support/rehearsal.ts";
import { wholeSet } from "./support/number-set.ts";

const SEED = wholeSet("ISTHMUS_KILL_SEED", 1, 0);
/** Every step that does something in a project that has nothing of ours. */
const STEPS: readonly Moment[] = [
  { step: "queue and cache", longMs: 50 },
  { step: "schema", longMs: 3_000 },
  { step: "worker", longMs: 200 },
  { step: "rights", longMs: 500 },
  { step: "secret key", longMs: 50 },
  { step: "secrets", longMs: 50 },
  { step: "functions", longMs: 4_000 },
  { step: "Vault", longMs: 50 },
];

it(
  `setup that is killed in the middle of each of its steps goes on, and leaves nothing twice (seed ${SEED})`,
  { timeout: 600_000 },
  async () => {
    await using project = await startRehearsal("setup-killed");
    const before = await applicationState(project.admin);
    const kills = await killedInEach(project, ["setup", "--yes"], STEPS, SEED);
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
