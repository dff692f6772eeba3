import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { IsthmusError } from "../shared/errors.ts";
import { nextTime } from "../shared/tick/start-jobs.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Context } from "../shared/context.ts";
import { anyJson, SEED, strangeText, syncRequest } from "./support/hostile.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** What somebody may write into sync_jobs in the table editor. */
const NOON = Date.UTC(2027, 0, 5, 12);
const LATE_MS = 3_000;
/** What a job may fail with here: what it asks for is wrong, or cannot be done as things are. */
const TOLD =
  /^(REQUEST_INVALID|CAPTURE_IMPOSSIBLE|CAPTURE_UNBACKED|CONTRACT_BROKEN|TARGET_NOT_EMPTY|SELECTION_TOO_LARGE|SIDE_EFFECTS_UNACKNOWLEDGED)$/;

const field = fc.oneof(
  fc.constantFrom(
    "*",
    "0",
    "*/5",
    "1-5",
    "5-1",
    "*/0",
    "L",
    "?",
    "MON",
    "1#2",
    "2W",
    "99",
    "-1",
    "1,",
    ",",
    "1/1/1",
    "1e3",
    "\u0661",
  ),
  fc.string({ unit: "grapheme-ascii", maxLength: 4 }),
);
const cron = fc.oneof(
  { weight: 3, arbitrary: fc.array(field, { minLength: 4, maxLength: 7 }).map((fields) => fields.join(" ")) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      "* * * * *",
      "0 0 30 2 *",
      "0 0 29 2 1",
      "@daily",
      "@reboot",
      "* * * * * * 9999",
      "* * * * * * 275761",
      "",
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(`${"0,".repeat(5_000)}0 * * * *`, `0-${"9".repeat(400)} * * * *`, " * ".repeat(3_000)),
  },
  { weight: 1, arbitrary: strangeText },
);
const zone = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom("UTC", "Europe/Berlin", "America/St_Johns", "Etc/GMT+12", "+14:00") },
  { weight: 1, arbitrary: fc.oneof(strangeText, fc.constantFrom("utc+2", "Mars/Olympus", "Europe", "../etc/passwd")) },
);

it("2,000 times of jobs: each has a next time that a database can hold, or is refused as what it is", () => {
  fc.assert(
    fc.property(
      cron,
      zone,
      fc.constantFrom(NOON, Date.UTC(2024, 1, 29), Date.UTC(9999, 11, 31)),
      (expression, time_zone, now) => {
        const began = Date.now();
        try {
          const next = nextTime({ cron_expression: expression, time_zone }, new Date(now));
          expect(next?.getTime()).toBeGreaterThan(now);
          expect(next?.toISOString()).toMatch(/^(\d{4}|\+0\d{5})-/);
        } catch (error) {
          expect((error as IsthmusError).code, String(error)).toBe("REQUEST_INVALID");
        }
        expect(Date.now() - began).toBeLessThan(LATE_MS);
      },
    ),
    { seed: SEED, numRuns: 2_000 },
  );
});

type Raw = Record<string, unknown>;
interface Chain {
  readonly entity: string | null;
  readonly capture: string;
  readonly size: number;
  readonly selection: { filters?: { column: string; values: string[] }[]; dated?: { from?: string; to?: string } } | null;
}

let test: Pipeline;
let context: Context;
const lines: string[] = [];
beforeAll(async () => {
  test = await createPipeline();
  await test.seed.office(1);
  await test.seed.patient(1, { userId: 101, officeId: 1 });
  await test.seed.instruction(11, 1, { status: 1, price: "1.00" });
  await test.sync();
  await test.target.admin`delete from public.sync_jobs`;
  const error = (event: string, fields?: object) => lines.push(`${event} ${JSON.stringify(fields)}`);
  context = { ...test.context, clock: () => NOON, log: { ...test.context.log, error } };
});
afterAll(() => test[Symbol.asyncDispose]());

const names = (value: unknown) => Object.keys(value ?? {}).sort();

/** What one tick makes of a job; null where the database does not take it as a job. */
async function run(configuration: string, expression: string, time_zone: string) {
  const { admin } = test.target;
  const stored = await admin
    .unsafe<{ raw: string }[]>(
      `insert into public.sync_jobs (name, schedule_type, cron_expression, time_zone, configuration, next_execution_at)
       values ('fuzzed', 'cron', $1, $2, $3::text::jsonb, $4) returning configuration::text as raw`,
      [expression, time_zone, configuration, new Date(NOON).toISOString()],
    )
    .catch((error: unknown) => {
      expect((error as { code: string }).code).toMatch(/^(22|54)/);
    });
  const [row] = stored ?? [];
  if (!row) return null;
  const began = Date.now();
  const report = await tick(context);
  const took = Date.now() - began;
  const [job] = await admin<{ status: string; code: string | null; error: string; next: Date | null }[]>`
    select status, last_error ->> 'code' as code, coalesce(last_error::text, '') as error, next_execution_at as next from public.sync_jobs`;
  const [execution] = await admin<{ entities: string[]; selective: boolean; dry: boolean; triggered: string }[]>`
    select entities, selective, dry_run as dry, triggered_by as triggered from public.sync_executions where id = any (${[...report.started]}::uuid[])`;
  const chains = await admin<Chain[]>`
    select e.entity_type as entity, c.capture::text as capture, c.page_size as size, c.selection from public.sync_chains c
      left join public.sync_entities e on e.id = c.entity_id where c.execution_id = any (${[...report.started]}::uuid[])`;
  const keys = await admin<{ key: string }[]>`
    select e.entity_type || ' ' || k.legacy_id as key from public.sync_pending_keys k join public.sync_entities e on e.id = k.entity_id order by 1`;
  await admin`select sync.cancel_executions(null, 'test')`;
  await admin`delete from public.sync_pending_keys`;
  await admin`delete from public.sync_executions where id <> all (select execution_id from public.sync_page_log)`;
  await admin`update public.sync_executions set job_id = null`;
  await admin`update public.sync_checkpoints set job_id = null`;
  await admin`delete from public.sync_jobs`;
  test.queue.length = 0;
  return { raw: JSON.parse(row.raw) as Raw, took, report, job, execution, chains, keys: keys.map(({ key }) => key) };
}

function expectNoMoreThanAsked({ raw, execution, chains, keys }: NonNullable<Awaited<ReturnType<typeof run>>>): void {
  const { legacyIds = {}, filters = {}, dateRange, entities, pageSize, dryRun = false, adopt = false } = raw;
  const ids = Object.entries(legacyIds as Record<string, (string | number)[]>);
  expect(execution?.dry).toBe(dryRun);
  if (pageSize !== undefined) for (const { size } of chains) expect(size).toBeLessThanOrEqual(Number(pageSize));
  // A plan keeps what it is asked for to itself.
  if (dryRun === false)
    expect(keys).toEqual([...new Set(ids.flatMap(([name, list]) => list.map((id) => `${name} ${BigInt(id)}`)))].sort());
  const selects = ["legacyIds", "filters", "dateRange"].some((name) => name in raw);
  expect(execution?.selective).toBe(selects);
  const named = [...new Set([...((entities ?? []) as string[]), ...names(legacyIds), ...names(filters)])];
  const asked = named.length > 0 ? named : [...context.entities.keys()];
  for (const { entity, capture, selection } of chains) {
    if (entity === null) continue;
    expect(asked).toContain(entity);
    if (adopt === true) expect(capture).toBe("adopt");
    if (!selects) continue;
    expect(["keys", "selection"]).toContain(capture);
    expect(capture === "selection").toBe(!names(legacyIds).includes(entity));
    if (capture !== "selection") continue;
    const columns = ((filters as Record<string, Raw>)[entity] ?? {}) as Record<string, unknown>;
    const wanted = Object.entries(columns).map(([column, value]) => [column, [value].flat().map(String)]);
    expect(selection?.filters?.map(({ column, values }) => [column, values]) ?? []).toEqual(wanted);
    const { from, to } = (dateRange ?? {}) as { from?: string; to?: string };
    expect([selection?.dated?.from, selection?.dated?.to]).toEqual([from, to]);
    expect(wanted.length > 0 || from !== undefined || to !== undefined).toBe(true);
  }
}

it(
  "200 jobs: each begins what it asks for and no more, or has failed with the reason; none is INTERNAL, and no tick waits for it",
  { timeout: 200_000 },
  async () => {
    const configuration = fc.oneof({ weight: 5, arbitrary: syncRequest }, { weight: 1, arbitrary: anyJson });
    const time = fc.oneof({ weight: 6, arbitrary: fc.constant("*/5 * * * *") }, { weight: 1, arbitrary: cron });
    const where = fc.oneof({ weight: 8, arbitrary: fc.constant("UTC") }, { weight: 1, arbitrary: zone });
    const rows = () =>
      test.target.admin`select o.*, (select count(*) from public.uuid_mappings_enhanced) as mapped from public.orders o`;
    const before = await rows();
    let begun = 0;
    // A question to an adoption is no adoption.
    const question = await run('{"adopt": true, "dryRun": true}', "*/5 * * * *", "UTC");
    expect([question?.job?.code, question?.report.started]).toEqual(["REQUEST_INVALID", []]);
    await fc.assert(
      fc.asyncProperty(configuration, time, where, async (asked, expression, time_zone) => {
        lines.length = 0;
        const ran = await run(asked, expression, time_zone);
        if (!ran) return;
        expect(ran.took).toBeLessThan(LATE_MS);
        expect(lines.filter((line) => line.startsWith("tick.failed") && !line.includes('"part":"deliveries"'))).toEqual([]);
        if (ran.execution) {
          begun += 1;
          expectNoMoreThanAsked(ran);
          return;
        }
        expect(ran.job?.code, lines.join()).toMatch(TOLD);
        expect(ran.job?.error.length).toBeLessThan(10_000);
        expect(ran.keys).toEqual([]);
        // A wrong time is looked at again when somebody has changed it, a wrong request at its next time.
        expect(ran.job?.status).toBe("failed");
      }),
      { seed: SEED, numRuns: 200 },
    );
    expect(begun).toBeGreaterThan(20);
    expect(await rows()).toEqual(before);
  },
);
