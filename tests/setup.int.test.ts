import { appendFileSync, existsSync, readFileSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { migrations } from "../cli/setup/schema-history.ts";
import { advise, SAID_OF_DISLIKED } from "./support/advisors.ts";
import { checkout } from "./support/checkout.ts";
import { applicationState } from "./support/application-state.ts";
import { startRehearsal, type Rehearsal } from "./support/rehearsal.ts";

let project: Rehearsal;
let before: readonly string[];
let advisedBefore: readonly string[];
beforeAll(async () => {
  project = await startRehearsal("setup");
  appendFileSync(project.envFile, "ISTHMUS_IDLE_TIMEOUT_SECONDS=1\n");
  before = await applicationState(project.admin);
  advisedBefore = (await advise(project.ownerUrl)).others;
}, 180_000);
afterAll(() => project[Symbol.asyncDispose]());

/** The schedule's own call, more often than pg_cron makes it, while its job is not paused. */
function tickEvery(ms: number): AsyncDisposable {
  let over = false;
  const calls = (async () => {
    while (!over) {
      await project.admin`select sync.call_tick() from cron.job where jobname = 'isthmus-sync-tick' and active`;
      await new Promise((later) => setTimeout(later, ms));
    }
  })();
  return {
    [Symbol.asyncDispose]: async () => {
      over = true;
      await calls;
    },
  };
}

const steps = (err: string) =>
  [...err.matchAll(/^ {2}(ok|will|you) {1,3} +(\S.*?) {2,}/gm)].map(([, state, title]) => `${title}: ${state}`);

describe("setup, of a project that has migrations, tables, users and jobs of its own", () => {
  it("writes the file that a person fills in, where there is none, and does nothing else", async () => {
    const requests = project.api.requests.length;
    const path = join(project.folder, "fresh.env");
    const { code, err } = await project.sync("--env-file", path, "setup");
    expect(code).toBe(2);
    expect(err).toMatch(/fresh.env was written/);
    expect(readFileSync(path, "utf8")).toMatch(/^TARGET_OWNER_URL=$/m);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(project.api.requests.length).toBe(requests);
  });

  it("shows what it would do, having tried the migrations on the target itself, and changes nothing", async () => {
    const file = readFileSync(project.envFile, "utf8");
    const { code, out, err } = await project.sync("setup");
    expect(err).toMatch(/apply \d+ migrations \(tried and taken back\): \d\d tables in public, \d{3} functions in sync/);
    expect(steps(err)).toEqual([
      "entities: ok",
      "project: ok",
      "target: ok",
      "source: ok",
      "queue and cache: will",
      "schema: will",
      "worker: will",
      "rights: will",
      "secret key: will",
      "metrics token: will",
      "secrets: will",
      "functions: will",
      "Vault: will",
      "schedule: will",
      "check from inside: will",
    ]);
    expect(out).toMatch(/^Nothing was changed/);
    expect(code).toBe(0);
    expect(await applicationState(project.admin)).toEqual(before);
    expect(readFileSync(project.envFile, "utf8")).toBe(file);
    expect(project.api.requests.filter((line) => !line.startsWith("GET "))).toEqual([]);
  });

  it("goes on where it was killed between the making of a key and the keeping of its value", async () => {
    // Whatever ends the process there: the platform has the key, and nobody has heard of it.
    project.api.losing.push(/POST .*api-keys/);
    expect((await project.sync("setup", "--yes")).err).toMatch(/UNREACHABLE: secret key/);
    project.api.losing.splice(0);
    expect(project.api.keys.filter(({ name }) => name.startsWith("isthmus_"))).toHaveLength(1);
    expect(project.env()["ISTHMUS_API_KEY"]).toBeUndefined();
  });

  it("is broken off where the platform fails, and goes on there the next time", async () => {
    project.api.failing.push(/functions\/deploy/);
    const broken = await project.sync("setup", "--yes");
    expect(broken.err).toMatch(/PLATFORM_ERROR: functions: The functions could not be deployed/);
    expect(broken.code).toBe(1);
    project.api.failing.splice(0);
    const { code, out, err } = await project.sync("setup", "--yes");
    expect(steps(err)).toEqual([
      "entities: ok",
      "project: ok",
      "target: ok",
      "source: ok",
      "queue and cache: ok",
      "schema: ok",
      "worker: ok",
      "rights: ok",
      "secret key: ok",
      "metrics token: ok",
      "secrets: ok",
      "functions: ok",
      "Vault: ok",
      "schedule: ok",
      "check from inside: you",
    ]);
    expect(err).toMatch(
      /source, target and queue answer the functions; both catalogs fit; \d+ side effects are not acknowledged/,
    );
    expect(out).toMatch(
      /Left to you:\n {2}1\. Look at what writes set off[^\n]+\n {2}2\. Have it begin: npm run sync -- setup --go-live/,
    );
    expect(code).toBe(1);
  });

  it("has kept the application's history, jobs, secrets and rows, and a history of its own", async () => {
    const now = new Set(await applicationState(project.admin));
    expect(before.filter((line) => !now.has(line))).toEqual([]);
    expect([...now].filter((line) => line.startsWith("migration "))).toEqual(
      before.filter((line) => line.startsWith("migration ")),
    );
    const [history] = await project.admin`
      select count(*) filter (where part = 'migration')::int as migrations, count(*) filter (where part = 'functions')::int as deployments,
             bool_and(sha256 ~ '^[0-9a-f]{64}$') as hashed, array_agg(distinct applied_by) as by, array_agg(distinct release) as releases from sync.installed`;
    expect(history).toMatchObject({ deployments: 1, hashed: true, by: ["postgres"], releases: ["0.1.0"] });
    expect(history?.["migrations"]).toBe(migrations().length);
  });

  it("has made nothing that the project's advisors list, beside tables of the application's that they do", async () => {
    const { ours, others } = await advise(project.ownerUrl);
    expect(ours).toEqual([]);
    expect(others).toEqual(expect.arrayContaining(SAID_OF_DISLIKED));
    // Nor do they say more of the application's tables than before our grants.
    expect(others).toEqual(advisedBefore);
  });

  it("schedules paused: nothing begins by itself", async () => {
    const jobs = await project.admin`select jobname, active from cron.job where jobname like 'isthmus-%-tick' order by 1`;
    expect([...jobs]).toEqual([
      { jobname: "isthmus-sync-tick", active: false },
      { jobname: "isthmus-watch-tick", active: false },
    ]);
    expect([...(await project.admin`select enabled from public.sync_jobs`)]).toEqual([{ enabled: false }]);
    expect((await project.sync("setup", "--go-live", "--yes")).err).toMatch(/NOT_READY: check from inside/);
  });

  it("keeps secrets to itself: in no output, no log of the server, no other file", async () => {
    const env = project.env();
    const password = new URL((env["TARGET_DB_URL"] ?? "").replace(/^postgres:/, "http:")).password;
    expect(password.length).toBeGreaterThan(30);
    expect(statSync(project.envFile).mode & 0o777).toBe(0o600);
    const said = readFileSync(project.target.logFile, "utf8") + JSON.stringify(await project.admin`select * from sync.installed`);
    for (const value of [password, env["ISTHMUS_API_KEY"] ?? "", env["QSTASH_NEXT_SIGNING_KEY"] ?? ""]) {
      expect(value.length).toBeGreaterThan(20);
      expect(said.includes(value)).toBe(false);
    }
    expect(said).toMatch(/alter role "?isthmus_worker"? with login password 'SCRAM-SHA-256\$/i);
  });

  it(
    "goes live once what writes set off is accepted: the schedule's first tick has done its work",
    { timeout: 200_000 },
    async () => {
      expect((await project.sync("acknowledge", "--all")).code).toBe(0);
      const again = await project.sync("setup", "--yes");
      expect(again.out).toMatch(/Left to you:\n {2}1\. Have it begin/);
      expect(again.code).toBe(0);
      const live = await project.sync("setup", "--go-live", "--yes");
      expect(live.err).toMatch(/ok +first tick +the schedule has called sync-tick, and the tick has done its work/);
      expect(live.code).toBe(0);
      expect(await project.ticks()).toEqual([{ status_code: 202, timed_out: false, ended: true }]);
      expect([...(await project.admin`select enabled from public.sync_jobs`)]).toEqual([{ enabled: true }]);
      // Jobs of the application's whose names begin like ours are as they were.
      const others =
        await project.admin`select jobname, active from cron.job where jobname in ('isthmus-report', 'isthmus-later') order by 1`;
      expect([...others]).toEqual([
        { jobname: "isthmus-later", active: false },
        { jobname: "isthmus-report", active: true },
      ]);
      const first = await project.sync("start", "offices", "--watch");
      expect(first.code, first.err).toBe(0);
      const check = await project.sync("check");
      expect(check.out).toMatch(/Asked by the deployed function/);
      expect(check.out).not.toMatch(/target_(object|right)_/);
      expect((await project.sync("setup", "--yes")).out).toBe("Done. Nothing is left to do.\n");
    },
  );
});

describe("an installation", () => {
  it("is not changed by a release that has other migrations than it has, and says which", async () => {
    await project.admin`insert into sync.installed (part, version, name, sha256, release) values ('migration', '20991231000000', 'later', repeat('0', 64), '9.0.0')`;
    expect((await project.sync("setup", "--yes")).err).toMatch(/SCHEMA_AHEAD: schema: A newer release is installed/);
    await project.admin`delete from sync.installed where version = '20991231000000'`;
    await project.admin`insert into sync.installed (part, version, name, sha256, release) values ('migration', '20261101000100', 'release_0_1_0', repeat('0', 64), '0.1.0')`;
    expect((await project.sync("setup", "--yes")).err).toMatch(/SCHEMA_CHANGED: .*20261101000100_release_0_1_0/);
    await project.admin`delete from sync.installed where sha256 = repeat('0', 64)`;
  });

  it("is brought to a later release by --upgrade alone, with what was there left in place", async () => {
    const later = checkout(join(project.folder, "later"), {
      "migrations/20991231000000_comment_schema.sql": "comment on schema sync is 'a later release';\n",
      "functions/sync-tick/handler.ts": (text) => `${text}// a later release\n`,
    });
    const refused = await later("--env-file", project.envFile, "setup", "--yes");
    expect(refused.err).toMatch(/SCHEMA_OUTDATED: schema: An older release is installed: 1 migrations are missing/);
    const [mappings] = await project.admin`select count(*)::int as n from public.uuid_mappings_enhanced`;
    const { code, err } = await later("--env-file", project.envFile, "setup", "--upgrade", "--yes");
    expect(code, err).toBe(0);
    expect(err).toMatch(/\.\.\. +schema +apply 1 migrations/);
    expect([...(await project.admin`select obj_description('sync'::regnamespace) as says`)]).toEqual([
      { says: "a later release" },
    ]);
    expect(err).toMatch(/\.\.\. +functions +deploy these sources/);
    expect([...(await project.admin`select active from cron.job where jobname = 'isthmus-sync-tick'`)]).toEqual([
      { active: true },
    ]);
    expect([...(await project.admin`select count(*)::int as n from public.uuid_mappings_enhanced`)]).toEqual([mappings]);
    expect((await project.sync("setup", "--yes")).err).toMatch(/SCHEMA_AHEAD: schema: A newer release is installed/);
    // Back to this release, for what follows.
    await project.admin`delete from sync.installed where version = '20991231000000'`;
    expect((await project.sync("setup", "--yes")).code).toBe(0);
  });

  it("is given new keys, with no failed tick in between", { timeout: 400_000 }, async () => {
    const old = project.env();
    // Each opens a connection of its own: it meets the password that the role has then.
    await using ticking = tickEvery(2_500);
    const { code, err } = await project.sync("setup", "--rotate-keys", "--yes");
    expect(code, err).toBe(0);
    await ticking[Symbol.asyncDispose]();
    const now = project.env();
    for (const name of ["ISTHMUS_API_KEY", "TARGET_DB_URL", "METRICS_TOKEN"]) expect(now[name], name).not.toBe(old[name]);
    expect(project.api.keys.map(({ api_key }) => api_key)).not.toContain(old["ISTHMUS_API_KEY"]);
    expect(project.api.keys.filter(({ name }) => name.startsWith("isthmus_"))).toHaveLength(1);
    expect(project.api.keys.map(({ name }) => name)).toContain("isthmus");
    // What is in use is the new: an execution through queue, functions and scheduler.
    expect((await project.sync("start", "offices", "--watch")).code).toBe(0);
    // In about half a minute.
    expect((await project.ticks()).length).toBeGreaterThan(5);
    // One that pg_cron has called this moment may still be at work.
    const failed = async () =>
      (await project.ticks()).filter((tick) => tick.status_code !== 202 || tick.timed_out === true || !tick.ended);
    await expect.poll(failed, { timeout: 20_000 }).toEqual([]);
    expect([
      ...(await project.admin`select kind from public.sync_alerts where kind like 'tick_%' and closed_at is null`),
    ]).toEqual([]);
    expect((await project.sync("setup", "--yes")).out).toBe("Done. Nothing is left to do.\n");

    expect((await project.sync("setup", "--rotate-signing-keys", "--yes")).code).toBe(0);
    expect(project.env()["QSTASH_CURRENT_SIGNING_KEY"]).toBe(now["QSTASH_NEXT_SIGNING_KEY"]);
    expect(project.env()["QSTASH_NEXT_SIGNING_KEY"]).not.toBe(now["QSTASH_NEXT_SIGNING_KEY"]);
    expect((await project.sync("start", "offices", "--watch")).code).toBe(0);
  });

  it(
    "finishes new keys that were broken off, with no tick called until role, file and functions agree",
    { timeout: 400_000 },
    async () => {
      // The role has its new password, and the functions do not.
      project.api.failing.push(/POST .*secrets/);
      const ticking = tickEvery(1_000);
      const broken = await project.sync("setup", "--rotate-keys", "--yes");
      await ticking[Symbol.asyncDispose]();
      expect(broken.err).toMatch(/PLATFORM_ERROR: new password/);
      project.api.failing.splice(0);
      const calls: (string | null | undefined)[] = [];
      const call = async () =>
        void calls.push((await project.admin<{ call: string | null }[]>`select sync.call_tick() as call`)[0]?.call);
      project.api.meanwhile.set(/POST .*secrets/, call);
      // Once the former run is finished, what waits for the next tick need not wait for the minute.
      const later: AsyncDisposable[] = [];
      project.api.meanwhile.set(/POST .*api-keys/, () => Promise.resolve(void later.push(tickEvery(1_000))));
      const { code, err } = await project.sync("setup", "--rotate-keys", "--yes");
      project.api.meanwhile.clear();
      for (const one of later) await one[Symbol.asyncDispose]();
      expect(code, err).toBe(0);
      expect(err).toMatch(/\.\.\. +former run +finish it, while no tick is called: set TARGET_DB_URL/);
      // The token of metrics is nothing to ticks: they go on while it changes.
      expect(calls).toEqual([null, null, expect.any(String)]);
      expect((await project.sync("start", "offices", "--watch")).code).toBe(0);
      expect(project.api.keys.filter(({ name }) => name.startsWith("isthmus_"))).toHaveLength(1);
    },
  );

  it("calls no tick while a key changes, and calls them again however that ends", async () => {
    const called = () => project.admin<{ call: string | null }[]>`select sync.call_tick() as call`;
    await project.admin.begin(async (tx) => {
      await tx`select pg_advisory_xact_lock(4973118223)`;
      expect([...(await called())]).toEqual([{ call: null }]);
    });
    expect((await called())[0]?.call).toMatch(/^[0-9a-f-]{36}$/);
  });

  it("is not taken back while the application uses something of ours, and nothing is touched then", async () => {
    const backup = join(project.folder, "used.csv");
    await project.admin.unsafe(
      "create view public.office_ids as select legacy_id, entity_uuid from public.uuid_mappings_enhanced",
    );
    const used = await project.sync("uninstall", "--backup", backup, "--yes");
    expect(used.err).toMatch(/APPLICATION_USES_IT: .*view public.office_ids/);
    await project.admin.unsafe(
      "drop view public.office_ids; alter table public.notes add column strategy public.conflict_resolution_strategy[]",
    );
    const column = await project.sync("uninstall", "--backup", backup, "--yes");
    expect(column.err).toMatch(/APPLICATION_USES_IT: .*strategy/);
    await project.admin.unsafe("alter table public.notes drop column strategy");
    expect([...project.api.uploads.keys()]).toHaveLength(3);
  });

  it("says what an uninstall takes back, and what stays because setup did not make it", async () => {
    const looked = await project.sync("uninstall", "--backup", join(project.folder, "looked.csv"));
    expect(looked.out, looked.err).toMatch(/^Nothing was changed/);
    expect(looked.err).toMatch(/will +schema +write \d+ mappings to .*looked.csv/);
    expect(looked.err).toMatch(/will +secrets +unset [^\n]*; QSTASH_TOKEN stay: setup did not make them/);
  });

  it("leaves no file of mappings where the database says no at the very end, and nothing dropped", async () => {
    const backup = join(project.folder, "refused.csv");
    await project.admin
      .unsafe(
        `create table public.refusals (id integer);
         create function public.refuse() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;
         create constraint trigger refuse after insert on public.refusals deferrable initially deferred for each row execute function public.refuse();
         create function public.at_the_end() returns event_trigger language plpgsql security definer as $$ begin insert into public.refusals values (1); end $$;
         create event trigger at_the_end on sql_drop execute function public.at_the_end();`,
      )
      .simple();
    expect((await project.sync("uninstall", "--backup", backup, "--yes")).code).toBe(1);
    for (const file of [backup, `${backup}.part`]) expect(existsSync(file), file).toBe(false);
    await project.admin
      .unsafe(
        "drop event trigger at_the_end; drop function public.at_the_end(); drop table public.refusals; drop function public.refuse()",
      )
      .simple();
  });

  it("is taken back whole: the project is what it was, and the mappings are in a file", async () => {
    const backup = join(project.folder, "mappings.csv");
    const [mappings] = await project.admin`select count(*)::int as n from public.uuid_mappings_enhanced`;
    const rows = await project.admin`select id, name from public.offices order by id`;
    const { code, err } = await project.sync("uninstall", "--backup", backup, "--yes");
    expect(code, err).toBe(0);

    expect(await applicationState(project.admin)).toEqual([...before]);
    expect([...(await project.admin`select id, name from public.offices order by id`)]).toEqual([...rows]);
    expect(rows.length).toBeGreaterThan(0);
    expect(readFileSync(backup, "utf8").trim().split("\n")).toHaveLength(Number(mappings?.["n"]) + 1);
    expect(statSync(backup).mode & 0o777).toBe(0o600);
    expect([...project.api.uploads.keys()]).toEqual([]);
    // What the application shares with us, or calls as we do, is still there.
    expect([...project.api.secrets]).toEqual([["QSTASH_TOKEN", project.qstash.token]]);
    expect(project.api.keys.map(({ name }) => name)).toEqual(["default", "default", "isthmus"]);
    expect((await project.sync("uninstall", "--backup", backup, "--yes")).code).toBe(0);
  });

  it("names the file of a run that ended between the drop and the naming", async () => {
    const backup = join(project.folder, "mappings.csv");
    renameSync(backup, `${backup}.part`);
    expect((await project.sync("uninstall", "--backup", backup, "--yes")).code).toBe(0);
    expect(existsSync(backup)).toBe(true);
  });
});
