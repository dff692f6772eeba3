import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Sql, TransactionSql } from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import type { Setup } from "../cli/setup/context.ts";
import { atRest, saveAndDrop } from "../cli/setup/drop-ours.ts";
import { scheduleTicks, startTicks } from "../cli/setup/schedule-ticks.ts";
import { tried } from "../cli/setup/tried.ts";
import { uninstallSteps } from "../cli/setup/uninstall.ts";
import { startHosted, type Hosted } from "./support/hosted.ts";

let hosted: Hosted;
let setup: Setup;
const folder = mkdtempSync(join(tmpdir(), "isthmus-taken-back-"));
const backup = join(folder, "mappings.csv");

beforeAll(async () => {
  hosted = await startHosted("taken-back");
  setup = { owner: hosted.owner, env: () => ({}) } as unknown as Setup;
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await hosted?.[Symbol.asyncDispose]();
});

const step = (title: string) => {
  const found = uninstallSteps(backup).find((one) => one.title === title);
  if (!found) throw new Error(`uninstall has no step ${title}`);
  return found;
};
const look = (title: string) => step(title).look(setup);
const act = (title: string) => step(title).act?.(setup);

describe("the schedule", () => {
  const OURS = [
    "isthmus-deliver-alerts",
    "isthmus-prune-cron-history",
    "isthmus-remove-history",
    "isthmus-sync-tick",
    "isthmus-watch-tick",
  ];
  /** Of the application, with names that begin like ours. */
  const OTHERS = ["isthmus-report", "isthmus-sync-tick-report"];
  const active = async () => {
    const rows = await hosted.admin<{ name: string }[]>`select jobname as name from cron.job where active order by 1`;
    return rows.map(({ name }) => name);
  };
  const remove = (name: string) => hosted.owner`select cron.unschedule(${name})`;

  beforeEach(async () => {
    for (const name of OTHERS) await hosted.owner`select cron.schedule(${name}, '0 4 1 1 *', 'select 1')`;
    await hosted.admin`select cron.alter_job(jobid, active := false) from cron.job where jobname <> 'isthmus-report'`;
  });

  it("that is put back where a job is missing stays paused, and begun where it had begun; jobs of others stay as they are", async () => {
    await remove("isthmus-watch-tick");
    expect(await scheduleTicks.look(setup)).toMatchObject({ state: "due" });
    await scheduleTicks.act?.(setup);
    expect(await scheduleTicks.look(setup)).toMatchObject({ state: "done" });
    expect(await active()).toEqual(["isthmus-report"]);

    await startTicks(setup);
    expect(await active()).toEqual([...OURS.slice(0, 3), "isthmus-report", ...OURS.slice(3)]);
    await remove("isthmus-watch-tick");
    await scheduleTicks.act?.(setup);
    expect(await active()).toEqual([...OURS.slice(0, 3), "isthmus-report", ...OURS.slice(3)]);
  });

  it("says that everybody may read pg_net's queue, for as long as that is so", async () => {
    await scheduleTicks.act?.(setup);
    expect(await scheduleTicks.look(setup)).toMatchObject({ text: expect.stringMatching(/everybody may read/) as unknown });
    await hosted.admin.unsafe("revoke select on net.http_request_queue from public, anon");
    expect(await scheduleTicks.look(setup)).toMatchObject({ text: expect.not.stringMatching(/everybody/) as unknown });
  });

  it("is taken back with our jobs, each by its name", async () => {
    await scheduleTicks.act?.(setup);
    expect(await look("schedule")).toEqual({ state: "due", text: `remove ${OURS.join(", ")} from pg_cron` });
    await act("schedule");
    expect(await look("schedule")).toMatchObject({ state: "done" });
    const left = await hosted.admin<{ name: string }[]>`select jobname as name from cron.job order by 1`;
    expect(left.map(({ name }) => name)).toEqual(OTHERS);
  });
});

it("Vault keeps what is not ours, whatever the beginning of its name", async () => {
  const ours = ["isthmus_functions_url", "isthmus_heartbeat_url", "isthmus_secret_key"];
  ours.push("isthmus_webhook_key", "isthmus_webhook_url", "isthmus_webhook_url_2");
  for (const name of [...ours, "isthmus_secret_key_of_reports", "payments"])
    await hosted.owner`select vault.create_secret('x', ${name})`;
  expect(await look("Vault")).toEqual({ state: "due", text: `delete ${ours.join(", ")}` });
  await act("Vault");
  const left = await hosted.admin<{ name: string }[]>`select name from vault.secrets order by 1`;
  expect(left.map(({ name }) => name)).toEqual(["isthmus_secret_key_of_reports", "payments"]);
  expect(await look("Vault")).toMatchObject({ state: "done" });
});

it("an execution that runs stops the uninstall before its first step; a plan, and one that has ended, do not", async () => {
  await hosted.admin.unsafe(
    `insert into public.sync_sources (name, namespace) values ('legacy', gen_random_uuid());
     insert into public.sync_executions (source_id, triggered_by, entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid,
                                         server_start, source_time, status, dry_run)
     select id, 'http:machine', '{}', '1', '1', '1', 1, 1, 'x', 'x', status::public.sync_execution_status, dry_run
       from public.sync_sources, (values ('running', true), ('succeeded', false)) x (status, dry_run)`,
  ).simple(); // prettier-ignore
  expect(await look("executions")).toEqual({ state: "done", text: "none runs" });
  await hosted.admin`update public.sync_executions set dry_run = false`;
  await expect(look("executions")).rejects.toMatchObject({ code: "SYNC_RUNNING" });
  await hosted.admin`delete from public.sync_executions`;
});

describe("the mappings", () => {
  const lines = (path: string) => readFileSync(path, "utf8").trim().split("\n").length;
  const files = () => readdirSync(folder).sort();

  beforeAll(async () => {
    await hosted.admin`
      insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
      select s.id, 'offices', n, gen_random_uuid(), 'offices', 'offices' from public.sync_sources s, generate_series(1, 3) n`;
  });

  it("are not written over a file that is there", async () => {
    writeFileSync(backup, "of another day");
    await expect(look("schema")).rejects.toMatchObject({ code: "FILE_EXISTS" });
    expect(readFileSync(backup, "utf8")).toBe("of another day");
    rmSync(backup);
  });

  /** The connection is lost once all was done: before its commit, or behind it, where nobody hears how it went. */
  const losing = (committed: boolean) => {
    const begin = async (work: (tx: TransactionSql) => Promise<unknown>) => {
      await (committed ? hosted.owner.begin(work) : tried(hosted.owner, work));
      throw Object.assign(new Error("write CONNECTION_CLOSED"), { code: "CONNECTION_CLOSED" });
    };
    return saveAndDrop({ begin } as unknown as Sql, backup);
  };

  it("stay in a file of their own where the connection is lost: the drop may have been committed", async () => {
    await expect(losing(false)).rejects.toMatchObject({ code: "CONNECTION_CLOSED" });
    expect(files()).toEqual(["mappings.csv.part"]);
    expect(lines(`${backup}.part`)).toBe(4);
    expect(await look("schema")).toMatchObject({ state: "due", text: expect.stringMatching(/^write 3 mappings to/) as unknown });
  });

  it("are written once more beside that file, and get their name from the next run where the drop was committed", async () => {
    await hosted.admin`
      insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
      select id, 'offices', 4, gen_random_uuid(), 'offices', 'offices' from public.sync_sources`;
    // Somebody is at work in our tables, a tick for one: the drop gives way, and tries again.
    const tick = hosted.admin.begin(async (tx) => {
      await tx`lock table public.sync_ticks in row exclusive mode`;
      await new Promise((later) => setTimeout(later, 1_500));
    });
    await expect(atRest(() => losing(true))).rejects.toMatchObject({ code: "CONNECTION_CLOSED" });
    await tick;
    expect(
      await hosted.admin`select to_regclass('public.uuid_mappings_enhanced') as tables, to_regnamespace('sync') as schema`,
    ).toMatchObject([{ tables: null, schema: null }]);
    expect(files()).toEqual(["mappings.csv.part", expect.stringMatching(/^mappings\.csv\.part\.20\d\d-/)]);
    expect(await look("schema")).toMatchObject({ state: "due", text: expect.stringMatching(/^give the mappings/) as unknown });
    await act("schema");
    expect(lines(backup)).toBe(5);
    expect(files()).toEqual(["mappings.csv", expect.stringMatching(/^mappings\.csv\.part\.20\d\d-/)]);
    expect(await look("schema")).toMatchObject({ state: "done" });
  });
});

it("whoever is at work in our tables all the time keeps the drop waiting for some twenty seconds, not for ever", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  let tries = 0;
  const busy = () =>
    Promise.reject(Object.assign(new Error("lock not available"), { code: ++tries % 2 === 0 ? "40P01" : "55P03" }));
  const told = expect(atRest(busy)).rejects.toMatchObject({ code: "SYNC_RUNNING" });
  await vi.advanceTimersByTimeAsync(20_000);
  await told;
  expect(tries).toBe(10);
  await expect(atRest(() => Promise.reject(new Error("another")))).rejects.toThrow("another");
});
