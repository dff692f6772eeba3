import { expect } from "vitest";
import type { ExecutionState } from "../../local/demo/watch.ts";
import { expectGolden, expectManifest, expectMoney } from "./expect-manifest.ts";
import type { TestPlatform } from "./platform.ts";

interface Holds {
  readonly title: string;
  readonly holds: (test: TestPlatform, first: ExecutionState) => Promise<void>;
}

/** What holds after the first load of everything, on every version of the target. */
export const AFTER_A_FIRST_LOAD: readonly Holds[] = [
  { title: "lands exactly what the manifest says, and queues exactly the rest, each for its reason", holds: expectManifest },
  { title: "carries every cent: the money of landed records adds up to the manifest's sums", holds: expectMoney },
  { title: "turns each kind of dirt into the value that the domain decided", holds: expectGolden },
  { title: "refers only to the right parents, checked on both sides by plain SQL", holds: expectRightParents },
  { title: "shows metrics that plain SQL over the page log recomputes", holds: expectMetrics },
  { title: "puts no value of a row into a log line or a queue message", holds: expectNoValues },
];

async function expectRightParents(test: TestPlatform): Promise<void> {
  const there = await test.source<{ id: number; patient: number; doctor: number | null; office: number | null }[]>`
    select i.id, i.patient_id as patient, p.doctor_id as doctor, p.office_id as office
      from public.dispatch_instruction i join public.dispatch_patient p on p.id = i.patient_id order by 1`;
  const here = await test.target<{ id: number; patient: number; doctor: number | null; office: number | null }[]>`
    select o.legacy_instruction_id::integer as id, p.legacy_patient_id::integer as patient, d.legacy_user_id::integer as doctor, f.legacy_office_id::integer as office
      from public.orders o join public.patients p on p.id = o.patient_id left join public.doctors d on d.id = o.doctor_id
      left join public.offices f on f.id = o.office_id order by 1`;
  const landed = new Set(here.map((row) => row.id));
  expect([...here]).toEqual([...there.filter((row) => landed.has(row.id))]);
}

async function expectMetrics(test: TestPlatform, first: ExecutionState): Promise<void> {
  const [row] = await test.target<
    {
      processed: number;
      succeeded: number;
      failed: number;
      healed: number;
      latency: number;
      hits: number;
      lookups: number;
      seconds: number;
    }[]
  >`
    select sum(read)::integer as processed, sum(inserted + updated + unchanged + deleted + waived)::integer as succeeded, sum(waiting + in_conflict)::integer as failed,
           (select coalesce(sum(c.attempts), 0)::integer from public.sync_conflicts c where c.execution_id = ${first.execution} and c.resolved_in = ${first.execution}) as healed,
           avg(wall_ms)::float8 as latency, sum(cache_hits)::integer as hits, sum(cache_lookups)::integer as lookups,
           (select extract(epoch from completed_at - started_at)::float8 from public.sync_executions where id = ${first.execution}) as seconds
      from public.sync_page_log where execution_id = ${first.execution}`;
  if (!row) throw new Error("no page log");
  const { metrics } = first;
  expect(metrics["recordsProcessed"]).toBe(row.processed);
  expect(metrics["successRate"]).toBeCloseTo(row.succeeded / row.processed, 5);
  expect(metrics["errorRate"]).toBeCloseTo((row.failed - row.healed) / row.processed, 5);
  expect(metrics["averageLatency"]).toBeCloseTo(row.latency, 2);
  expect(metrics["uuidCacheHitRate"]).toBeCloseTo(row.hits / row.lookups, 5);
  expect(metrics["throughputPerSecond"]).toBeCloseTo(row.processed / row.seconds, 1);
  // Of the records that waited or went to the queue, those that landed within the execution after all.
  const [queue] = await test.target<{ resolved: number; touched: number }[]>`
    select count(*) filter (where resolved_in = ${first.execution})::integer as resolved, count(*)::integer as touched
      from public.sync_conflicts where ${first.execution} in (execution_id, resolved_in)`;
  expect(metrics["conflictResolutionRate"]).toBeCloseTo((queue?.resolved ?? 0) / (queue?.touched ?? 1), 5);
}

/** No value of a row is in a log line or a message, so far. */
export async function expectNoValues(test: TestPlatform): Promise<void> {
  const names = await test.source<
    { name: string }[]
  >`select last_name as name from public.auth_user where length(last_name) > 5 limit 200`;
  const said =
    test.logs.map((entry) => entry.line).join("\n") +
    test.platform.qstash
      .history()
      .map((delivery) => delivery.body)
      .join("\n");
  expect(said.length).toBeGreaterThan(1_000);
  expect(names.filter(({ name }) => said.includes(name))).toEqual([]);
  for (const delivery of test.platform.qstash.history().filter((entry) => entry.url.endsWith("/sync-page"))) {
    expect(
      Object.keys(JSON.parse(delivery.body) as object).every((key) =>
        ["format", "execution", "chain", "page", "sends"].includes(key),
      ),
    ).toBe(true);
  }
}
