import { spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { expect, it } from "vitest";
import { offices } from "../clinic/entities/offices.ts";
import { prepareFiles } from "../local/postgres-files.ts";
import { startPostgres, type LocalPostgres } from "../local/postgres.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { until } from "./support/replica.ts";
import { scratchFolder } from "./support/scratch.ts";
import { databaseTemplates } from "./support/templates.ts";

const entities: Entity[] = [{ ...offices, onDelete: "hard" }];
/** As the templates call it. */
const DATABASE = "target_template";

/** A target on a server of its own, which archives what it writes down. */
interface Archived extends AsyncDisposable {
  readonly pg: LocalPostgres;
  readonly admin: Sql;
  /** Stops the server, keeps a copy of its files, and starts it again. */
  backUp(): Promise<void>;
  /** Puts the copy in the place of the files, and recovers it from the archive up to a restore point, where it is promoted. */
  recoverTo(point: string): Promise<void>;
}

async function createArchived(): Promise<Archived> {
  const folder = scratchFolder("recovered-target");
  const archive = join(folder, "archive");
  mkdirSync(archive, { recursive: true });
  chmodSync(archive, 0o777);
  const dataDir = join(folder, "server");
  const pg = await startPostgres({
    name: "archived",
    dataDir,
    copyOf: await databaseTemplates(),
    settings: { fsync: "off", autovacuum: "off", archive_mode: "on", archive_command: `cp %p '${archive}/%f'` },
  });
  const admin = postgres(pg.superuserUrl(DATABASE), { max: 2, onnotice: () => undefined });
  const { data } = prepareFiles(dataDir);
  const copy = (from: string, to: string) => {
    rmSync(to, { recursive: true, force: true });
    const { status, stderr } = spawnSync("/bin/cp", ["-a", from, to], { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
  };
  return {
    pg,
    admin,
    backUp: async () => {
      await pg.stop();
      copy(data, `${data}-copy`);
      await pg.restart();
    },
    recoverTo: async (point) => {
      // At its end the server archives the rest.
      await pg.stop();
      copy(`${data}-copy`, data);
      appendFileSync(
        join(data, "postgresql.auto.conf"),
        `restore_command = 'cp ''${archive}/%f'' %p'\nrecovery_target_name = '${point}'\nrecovery_target_action = 'pause'\n`,
      );
      writeFileSync(join(data, "recovery.signal"), "");
      await pg.restart();
      const paused = async () =>
        (await admin<{ state: string }[]>`select pg_get_wal_replay_pause_state() as state`)[0]?.state === "paused";
      await until("the recovery reaches its point", () => paused().catch(() => false));
      await admin`select pg_promote()`;
    },
    [Symbol.asyncDispose]: async () => {
      await admin.end({ timeout: 1 });
      await pg.remove();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The pipeline into that target; its own stands idle. */
async function pipelineInto({ pg, admin }: Archived): Promise<Pipeline> {
  const made = await createPipeline({ entities, targetUrl: () => pg.url("isthmus_worker", "local-worker", DATABASE) });
  await admin.unsafe(workerGrants(entities));
  return {
    ...made,
    target: { ...made.target, admin },
    sync: async (request) => {
      const begun = await made.start(request);
      await made.drain();
      const [ended] = await admin<{ status: string }[]>`select status from public.sync_executions where id = ${begun.execution}`;
      expect(ended?.status).toBe("succeeded");
      return begun;
    },
  };
}

it("a target that was recovered to a point in time is asked about as soon as it is promoted, and healed once accepted", async () => {
  await using server = await createArchived();
  await using test = await pipelineInto(server);
  const timeline = async () =>
    (await server.admin<{ timeline: number }[]>`select split_part(sync.target_identity(), '/', 2)::integer as timeline`)[0]
      ?.timeline;
  const side = async (sql: Sql, table: string, key: string) =>
    (await sql.unsafe<{ name: string }[]>(`select ${key} || ' ' || name as name from public.${table} order by 1`)).map(
      ({ name }) => name,
    );
  const here = () => side(server.admin, "offices", "legacy_office_id");
  const there = () => side(test.source.admin, "dispatch_office", "id");

  for (const id of [1, 2, 3]) await test.seed.office(id, { name: `office ${id}` });
  await test.sync();
  await server.backUp();
  await test.seed.office(4, { name: "office 4" });
  await test.sync();
  await server.admin`select pg_create_restore_point('noon')`;
  const noon = await here();
  expect(noon).toHaveLength(4);
  const before = await timeline();

  // What is done after that point is lost.
  await test.source.admin`update public.dispatch_office set name = 'renamed' where id = 2`;
  await test.source.admin`delete from public.dispatch_office where id = 3`;
  await test.sync({ capture: "digest" });
  expect(await here()).toEqual(await there());
  await server.recoverTo("noon");
  expect(await here()).toEqual(noon);
  expect(await timeline()).toBe((before ?? 0) + 1);

  // Only what a start finds out by itself: nobody tells it that the rows are old.
  await expect(test.start()).rejects.toMatchObject({ code: "TARGET_UNKNOWN" });
  const [asked] = await server.admin<{ identity: string }[]>`
    select identity from public.sync_identities where side = 'target_state' and accepted_at is null`;
  expect(asked?.identity).toBe(`timeline ${(before ?? 0) + 1} follows timeline ${before ?? 0}`);
  expect(await here()).toEqual(noon);

  await server.admin`update public.sync_identities set accepted_by = 'somebody' where accepted_at is null`;
  expect((await test.sync()).chains.map(({ capture }) => capture)).toContain("digest");
  expect(await here()).toEqual(await there());
  expect(await server.admin`select severity from public.sync_alerts where kind = 'target_restored'`).toEqual([
    { severity: "critical" },
  ]);
  expect((await test.sync()).chains).toEqual([]);
});
