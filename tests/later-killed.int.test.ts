import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { applicationState } from "./support/application-state.ts";
import { checkout } from "./support/checkout.ts";
import { commandLineOf, killedAtRequest, killedInEach, type Moment } from "./support/killed-command.ts";
import { startRehearsal, type Rehearsal } from "./support/rehearsal.ts";
import { wholeSet } from "./support/number-set.ts";

const SEED = wholeSet("ISTHMUS_KILL_SEED", 1, 0);

/** The lock that holds ticks back. */
const TICKS = 4_973_118_223;

describe(
  `a command that is killed in the middle of its steps goes on when it is run again (seed ${SEED})`,
  { timeout: 600_000 },
  () => {
    let project: Rehearsal;
    let before: readonly string[];
    beforeAll(async () => {
      project = await startRehearsal("later-killed");
      before = await applicationState(project.admin);
      const { code, err } = await project.sync("setup", "--yes");
      expect(code, err).toBe(1);
      expect((await project.sync("acknowledge", "--all")).code).toBe(0);
    }, 400_000);
    afterAll(() => project[Symbol.asyncDispose]());

    const done = async (...args: string[]) => {
      const { code, out, err } = await project.sync(...args);
      expect(code, err).toBe(0);
      return { out, err };
    };
    const jobs = async () => [
      ...(await project.admin<{ name: string; active: boolean }[]>`
      select jobname as name, active from cron.job where jobname ~ '^isthmus-(sync-tick|watch-tick|deliver-alerts)$' order by 1`),
    ];
    const each = (active: boolean) =>
      ["isthmus-deliver-alerts", "isthmus-sync-tick", "isthmus-watch-tick"].map((name) => ({ name, active }));
    /** Whoever died holds no ticks back. */
    const untilTicksAreFree = () =>
      expect
        .poll(async () => [...(await project.admin`select pg_try_advisory_xact_lock(${TICKS}) as free`)], { timeout: 20_000 })
        .toEqual([{ free: true }]);
    /** Role, file, functions and their secrets have one password, the project one key of ours, and an execution goes through all of them. */
    const expectTogether = async () => {
      const env = project.env();
      expect(project.api.secrets.get("TARGET_DB_URL")).toBe(env["TARGET_DB_URL"]);
      const worker = postgres(env["TARGET_DB_URL"] ?? "", { max: 1, fetch_types: false });
      expect([...(await worker`select current_user as me`)]).toEqual([{ me: "isthmus_worker" }]);
      await worker.end();
      const keys = project.api.keys.filter(({ name }) => name.startsWith("isthmus_"));
      expect(keys.map(({ api_key: key }) => key)).toEqual([env["ISTHMUS_API_KEY"]]);
      const [stored] =
        await project.admin`select decrypted_secret as key from vault.decrypted_secrets where name = 'isthmus_secret_key'`;
      expect(stored).toEqual({ key: env["ISTHMUS_API_KEY"] });
      await done("start", "offices", "--watch");
    };

    it("setup, in its last two steps: all jobs are there, and paused", async () => {
      const unschedule = async () => {
        await project.admin`select cron.unschedule(jobid) from cron.job where jobname = 'isthmus-watch-tick'`;
      };
      const last: readonly Moment[] = [
        { step: "schedule", longMs: 150 },
        { step: "check from inside", longMs: 3_000, behind: "schedule" },
      ];
      await unschedule();
      const kills = await killedInEach(project, ["setup", "--yes"], last, SEED, { between: unschedule });
      expect(kills).toHaveLength(2);
      await unschedule();
      expect((await done("setup", "--yes")).out).toMatch(/Left to you:\n {2}1\. Have it begin/);
      expect(await jobs()).toEqual(each(false));
    });

    it("setup --go-live: the schedule calls, a tick has worked, and the job runs", async () => {
      const moments: readonly Moment[] = [
        { step: "schedule", longMs: 50 },
        { step: "first tick", longMs: 1_000 },
        { step: "job daily", longMs: 30 },
      ];
      // The real schedule's first tick, up to a minute later, is waited for in setup.int.
      const ticking = tickEverySecond(project);
      try {
        // A run that is killed late in a step has done that step: the next one has the following step to do.
        expect((await killedInEach(project, ["setup", "--go-live", "--yes"], moments, SEED)).length).toBeGreaterThan(0);
      } finally {
        await ticking();
      }
      const { err } = await done("setup", "--go-live", "--yes");
      expect(err).toMatch(/ok +first tick +the schedule has called sync-tick, and the tick has done its work/);
      expect(await jobs()).toEqual(each(true));
      expect([...(await project.admin`select enabled from public.sync_jobs`)]).toEqual([{ enabled: true }]);
    });

    it("setup --rotate-keys: the next run brings all together, with one new key", async () => {
      const old = project.env();
      const moments: readonly Moment[] = [
        { step: "new secret key", longMs: 15_000 },
        { step: "new password", longMs: 8_000 },
      ];
      const args = ["setup", "--rotate-keys", "--yes"];
      const ticking = tickEverySecond(project);
      try {
        const kills = await killedInEach(project, args, moments, SEED, { between: untilTicksAreFree, toTheEnd: false });
        expect(kills).toHaveLength(2);
        // The platform has the new secrets, and no function was deployed since: isolates that run keep what they
        // began with.
        await killedAtRequest(project, args, /POST .*secrets/);
        await untilTicksAreFree();
        expect((await done(...args)).err).toMatch(/\.\.\. +former run +.*deploy anew: secrets were set since/);
      } finally {
        await ticking();
      }
      const now = project.env();
      for (const name of ["ISTHMUS_API_KEY", "TARGET_DB_URL"]) expect(now[name], name).not.toBe(old[name]);
      await expectTogether();
      expect((await done("setup", "--yes")).out).toBe("Done. Nothing is left to do.\n");
    });

    it("setup --rotate-signing-keys, when the secrets are new and no function was deployed since: the next run deploys", async () => {
      const args = ["setup", "--rotate-signing-keys", "--yes"];
      await killedAtRequest(project, args, /POST .*secrets/);
      expect((await done(...args)).err).toMatch(/\.\.\. +functions +.*deploy anew: secrets were set since/);
      await expectTogether();
    });

    it("setup --upgrade: the later release is whole, and the schedule still calls", async () => {
      const folder = join(project.folder, "later");
      const later = checkout(folder, {
        "migrations/20991231000000_comment_schema.sql": "comment on schema sync is 'a later release'; select pg_sleep(1);\n",
        "functions/sync-tick/handler.ts": (text) => `${text}// a later release\n`,
      });
      const moments: readonly Moment[] = [
        { step: "schema", longMs: 900 },
        { step: "functions", longMs: 4_000 },
      ];
      const kills = await killedInEach(project, ["setup", "--upgrade", "--yes"], moments, SEED, {
        program: commandLineOf(folder),
      });
      expect(kills).toHaveLength(2);
      const { code, err } = await later("--env-file", project.envFile, "setup", "--upgrade", "--yes");
      expect(code, err).toBe(0);
      const said = () => project.admin`select obj_description('sync'::regnamespace) as says`;
      expect([...(await said())]).toEqual([{ says: "a later release" }]);
      expect([...(await project.admin`select count(*)::int as n from sync.installed where version = '20991231000000'`)]).toEqual([
        { n: 1 },
      ]);
      expect(project.api.uploads.get("sync-tick")?.files.get("functions/sync-tick/handler.ts")?.toString()).toMatch(
        /a later release/,
      );
      expect(await jobs()).toEqual(each(true));
      await expectTogether();
    });

    it("uninstall: the project is what it was, and the mappings are in a file", async () => {
      const backup = join(project.folder, "mappings.csv");
      const [mappings] = await project.admin`select count(*)::int as n from public.uuid_mappings_enhanced`;
      const moments: readonly Moment[] = [
        { step: "schedule", longMs: 100 },
        { step: "functions", longMs: 6_000 },
        { step: "secrets", longMs: 50 },
        { step: "secret key", longMs: 50 },
        { step: "Vault", longMs: 50 },
        { step: "schema", longMs: 3_000 },
      ];
      const args = ["uninstall", "--backup", backup, "--yes"];
      expect((await killedInEach(project, args, moments, SEED)).length).toBeGreaterThan(3);
      await done(...args);
      expect(await applicationState(project.admin)).toEqual(before);
      expect(readFileSync(backup, "utf8").trim().split("\n")).toHaveLength(Number(mappings?.["n"]) + 1);
      expect([...project.api.uploads.keys()]).toEqual([]);
      expect([...project.api.secrets.keys()]).toEqual(["QSTASH_TOKEN"]);
      expect(project.api.keys.map(({ name }) => name)).toEqual(["default", "default", "isthmus"]);
      expect(existsSync(`${backup}.part`)).toBe(false);
      // A file of secrets that was being written has its name by now, or is gone.
      expect(readdirSync(project.folder).filter((name) => name.startsWith("isthmus.env"))).toEqual(["isthmus.env"]);
    });
  },
);

/** The schedule's own call, sixty times as often as pg_cron makes it. @returns what ends it. */
function tickEverySecond(project: Rehearsal): () => Promise<void> {
  let over = false;
  const calls = (async () => {
    while (!over) {
      await project.admin`select sync.call_tick() from cron.job where jobname = 'isthmus-sync-tick' and active`;
      await new Promise((later) => setTimeout(later, 1_000));
    }
  })();
  return async () => {
    over = true;
    await calls;
  };
}
