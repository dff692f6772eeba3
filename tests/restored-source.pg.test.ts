import postgres, { type Sql } from "postgres";
import { expect, it } from "vitest";
import { chooseCapture } from "../shared/plan/choose-capture.ts";
import { checkpoints } from "../shared/target/plan.ts";
import { sourcePosition } from "../shared/source/position.ts";
import { createOwnSource, pipelineFrom } from "./support/own-source.ts";
import type { Pipeline } from "./support/pipeline.ts";

const OFFICES = { entities: ["offices"] };

async function names(sql: Sql, table: string, key: string): Promise<Record<string, string>> {
  const rows = await sql.unsafe<{ id: string; name: string }[]>(`select ${key}::text as id, name from public.${table}`);
  return Object.fromEntries(rows.map(({ id, name }) => [id, name]));
}

/** Every record that the source has now is in the target as it is there; what it no longer has, only deletes could take away. */
async function expectInStep(source: Sql, target: Sql): Promise<void> {
  const there = await names(source, "dispatch_office", "id");
  expect(Object.keys(there).length).toBeGreaterThan(0);
  expect(await names(target, "offices", "legacy_office_id")).toMatchObject(there);
}

const rename = (sql: Sql, id: number, name: string) => sql`update public.dispatch_office set name = ${name} where id = ${id}`;

/** Transactions that change nothing that is synced. */
async function passTime(sql: Sql, transactions: number): Promise<void> {
  for (let n = 0; n < transactions; n++) await sql.unsafe("select txid_current()");
}

/** Another database under the source's name is a question: somebody accepts it. */
async function accept(test: Pipeline): Promise<void> {
  await expect(test.start(OFFICES)).rejects.toMatchObject({ code: "SOURCE_UNKNOWN" });
  await test.target.admin`update public.sync_identities set accepted_by = 'somebody' where accepted_at is null`;
}

const alerts = (test: Pipeline) =>
  test.target.admin`select severity, details from public.sync_alerts where kind = 'source_restored'`;

it("a source that was put back to an older state is read in full, by one execution, and somebody is told", async () => {
  await using source = await createOwnSource();
  await using test = await pipelineFrom(source);
  for (const id of [1, 2]) await source.seed.office(id, { name: `office ${id}` });
  await test.sync(OFFICES);
  await source.backUp();
  await rename(source.admin, 2, "renamed after the backup");
  await source.seed.office(3);
  await passTime(source.admin, 20);
  await test.sync(OFFICES);

  await source.putBack();
  // The ids of the lost transactions are given away again, to other changes.
  await rename(source.admin, 1, "renamed after the restore");
  await source.seed.office(4);
  expect((await test.sync(OFFICES)).chains).toMatchObject([{ entity: "offices", capture: "full" }]);
  await expectInStep(source.admin, test.target.admin);
  expect(await names(test.target.admin, "offices", "legacy_office_id")).toMatchObject({ 2: "office 2" });
  expect(await alerts(test)).toMatchObject([{ severity: "critical", details: { entities: ["offices"] } }]);

  await rename(source.admin, 4, "and on it goes");
  expect((await test.sync(OFFICES)).chains).toMatchObject([{ entity: "offices", capture: "xmin" }]);
  await expectInStep(source.admin, test.target.admin);
  expect(await alerts(test)).toHaveLength(1);
});

it("one that has moved on since, beyond the horizon, is recognised by its start: changes alone would not do", async () => {
  await using source = await createOwnSource();
  await using test = await pipelineFrom(source);
  await source.seed.office(1);
  await test.sync(OFFICES);
  const choose = async () => {
    const [checkpoint] = await checkpoints(test.target.admin, 1);
    const position = await sourcePosition(test.context.source);
    return chooseCapture(checkpoint, position, checkpoint?.definition_hash ?? "", "auto");
  };
  expect(await choose()).toMatchObject({ capture: "xmin", digest: false });
  await source.backUp();
  expect(await choose()).toMatchObject({ capture: "xmin", digest: true });
  await source.seed.office(2);
  await test.sync(OFFICES);
  // Its start is known from now on.
  expect(await choose()).toMatchObject({ capture: "xmin", digest: false });

  await source.putBack();
  await source.seed.office(3);
  await passTime(source.admin, 20);
  expect(await choose()).toMatchObject({ capture: "xmin", digest: true });
  await test.sync(OFFICES);
  expect(await choose()).toMatchObject({ capture: "xmin", digest: false });
  expect(await alerts(test)).toHaveLength(0);
});

it("a source that is replaced by a copy of itself, on another server, is read in full once somebody has accepted it", async () => {
  await using source = await createOwnSource();
  await using test = await pipelineFrom(source);
  for (const id of [1, 2]) await source.seed.office(id);
  await test.sync(OFFICES);
  await source.pg.stop();

  await using copy = await createOwnSource({ port: source.pg.port });
  for (const id of [1, 2]) await copy.seed.office(id);
  await passTime(copy.admin, 50);
  await rename(copy.admin, 1, "changed on the copy");
  await copy.seed.office(3);
  await accept(test);
  expect((await test.sync(OFFICES)).chains).toMatchObject([{ entity: "offices", capture: "full" }]);
  await expectInStep(copy.admin, test.target.admin);
  expect(await alerts(test)).toHaveLength(0);
});

it("so is another database of the same server, and no page of a running execution reads from it", async () => {
  await using source = await createOwnSource();
  await using test = await pipelineFrom(source);
  for (const id of [1, 2]) await source.seed.office(id);
  await test.sync(OFFICES);
  await source.seed.office(3);
  const begun = await test.start(OFFICES);

  const other = postgres(source.pg.superuserUrl("postgres"), { max: 1, onnotice: () => undefined });
  await other.unsafe("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'legacy'");
  await other.unsafe("create database restored template legacy");
  await other.unsafe("alter database legacy rename to old");
  await other.unsafe("alter database restored rename to legacy");
  await other.end();

  expect(await test.runOne()).toMatchObject({ outcome: "failed", error: { code: "SOURCE_CHANGED" }, retrySeconds: null });
  await test.drain();
  expect(await test.status(begun.execution)).toMatchObject({ status: "failed" });
  await rename(source.admin, 2, "changed in the other database");
  await accept(test);
  expect((await test.sync(OFFICES)).chains).toMatchObject([{ entity: "offices", capture: "full" }]);
  await expectInStep(source.admin, test.target.admin);
});

it("a page that meets an older state of its primary fails instead of waiting for ever", async () => {
  await using source = await createOwnSource();
  await using test = await pipelineFrom(source);
  await source.seed.office(1);
  await source.backUp();
  await passTime(source.admin, 20);
  const begun = await test.start(OFFICES);
  await source.putBack();
  expect(await test.runOne()).toMatchObject({ outcome: "failed", error: { code: "SOURCE_CHANGED" }, retrySeconds: null });
  await test.drain();
  expect(await test.status(begun.execution)).toMatchObject({ status: "failed", errors: [{ code: "SOURCE_CHANGED" }] });
  await test.sync(OFFICES);
  await expectInStep(source.admin, test.target.admin);
});
