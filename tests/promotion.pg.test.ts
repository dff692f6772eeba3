import { rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import postgres from "postgres";
import { afterAll, beforeAll, expect, it } from "vitest";
import { prepareFiles } from "../local/postgres-files.ts";
import { startPostgres, type LocalPostgres } from "../local/postgres.ts";
import { sourcePosition } from "../shared/source/position.ts";

const FOLDER = resolve(`.local/promotion-${process.pid}`);
let pg: LocalPostgres;
beforeAll(async () => {
  pg = await startPostgres({ name: "promoted", dataDir: FOLDER });
});
afterAll(async () => {
  await pg.remove();
  rmSync(FOLDER, { recursive: true, force: true });
});

it("a replica that was promoted has its new timeline at once, long before its first checkpoint ends", async () => {
  const before = postgres(pg.superuserUrl(), { max: 1, fetch_types: false });
  const primary = await sourcePosition(before);
  // So much to write down that the checkpoint after the promotion takes minutes.
  await before.unsafe("checkpoint");
  await before.unsafe("create table big as select n, repeat('x', 500) as filler from generate_series(1, 60000) n");
  await before.end({ timeout: 1 });
  await pg.crash();
  writeFileSync(join(prepareFiles(FOLDER).data, "standby.signal"), "");
  await pg.restart();

  const sql = postgres(pg.superuserUrl(), { max: 1, fetch_types: false });
  expect(await sourcePosition(sql)).toMatchObject({ in_recovery: true, timeline: primary.timeline });
  await sql.unsafe("select pg_promote()");
  expect(await sourcePosition(sql)).toMatchObject({
    in_recovery: false,
    system_identifier: primary.system_identifier,
    timeline: primary.timeline + 1,
  });
  // Otherwise this test would not show anything.
  const [control] = await sql.unsafe<{ timeline: number }[]>("select timeline_id as timeline from pg_control_checkpoint()");
  expect(control?.timeline).toBe(primary.timeline);
  await sql.end({ timeout: 1 });
});
