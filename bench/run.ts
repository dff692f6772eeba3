import { mkdir } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import cliProgress from "cli-progress";
import postgres, { type Sql } from "postgres";
import { Command } from "commander";
import { startTestPlatform, type TestPlatform } from "../tests/support/platform.ts";
import { copy, perRecord, preparePeers, setBased, type Peer } from "./peers.ts";
import { writeReport, type Bench, type Execution } from "./report.ts";
import { serverCpuMs } from "./servers.ts";

// npm run bench: user actions through the whole pipeline (HTTP, QStash's stand-in, the functions on Deno), and the
// same records by other means on the same servers in the same run. Writes bench/results/<date>.json and
// bench/RESULTS.md.

const options = new Command("bench")
  .option("--records <n>", "user actions", Number, 60_000)
  .option("--repeat <n>", "how often, each time from nothing", Number, 3)
  .option("--full", "250,000 and 1,000,000 user actions")
  .parse()
  .opts<{ records: number; repeat: number; full?: true }>();

/** What the record-by-record way is given: it would take all day for all. */
const BY_RECORD = 2_000;

const sizes = options.full ? [250_000, 1_000_000] : [options.records];
const bar = new cliProgress.SingleBar({ format: "{bar} {value}/{total} {step}", hideCursor: true }, cliProgress.Presets.rect);
const interactive = process.stdout.isTTY;
const STEPS = 7;
let steps = 0;
if (interactive) bar.start(sizes.length * options.repeat * STEPS, 0, { step: "" });
const tell = (step: string) => {
  steps++;
  if (interactive) bar.update(steps, { step });
  else process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${step}\n`);
};

const bench: Bench = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}, ${Math.round(totalmem() / 2 ** 30)} GB, Node ${process.version}`,
  runs: [],
};
for (const records of sizes)
  for (let turn = 0; turn < options.repeat; turn++) bench.runs.push(await once(records, `${records} records, turn ${turn + 1}`));
if (interactive) bar.stop();
const results = join(import.meta.dirname, "results");
await mkdir(results, { recursive: true });
await writeReport(import.meta.dirname, bench);
process.stdout.write(`\nWritten: bench/RESULTS.md\n`);

async function once(records: number, title: string): Promise<Bench["runs"][number]> {
  tell(`${title}: servers`);
  await using test = await startTestPlatform("bench", { scale: 0.02, logScale: 0.0001 });
  const admin = test.platform.target.superuserUrl("supabase");
  const target = postgres(admin, { max: 8, onnotice: () => undefined });
  try {
    await test.finish((await test.start({})).execution, { timeoutMs: 600_000, pollMs: 200 });
    await fill(test, records);
    tell(`${title}: first load`);
    const before = await stateBytes(target);
    const executions = [await execute(test, target, "first load", { entities: ["user_actions"], capture: "full" })];
    const bytes = ((await stateBytes(target)) - before) / records;
    tell(`${title}: everything again`);
    executions.push(await execute(test, target, "everything again", { entities: ["user_actions"], capture: "full" }));
    tell(`${title}: digest`);
    executions.push(await execute(test, target, "digest", { entities: ["user_actions"], capture: "digest" }));
    const peers: Peer[] = [];
    await preparePeers(target, { port: test.platform.source.port, database: "legacy" });
    tell(`${title}: set-based SQL`);
    peers.push(await setBased(target, records));
    tell(`${title}: COPY`);
    peers.push(await copy(target));
    tell(`${title}: record by record`);
    peers.push(await perRecord(test.source, target, BY_RECORD));
    return { records, executions, peers, stateBytes: bytes };
  } finally {
    await target.end({ timeout: 1 });
  }
}

/** The generated user actions go, and as many as asked for come. */
async function fill({ source }: TestPlatform, records: number): Promise<void> {
  await source.unsafe(`
    truncate public.dispatch_action;
    insert into public.dispatch_action (id, user_id, action, date, item_type_id, item_id, owner_type_id, owner_id, data)
    select 1000000 + i, u.ids[1 + i % cardinality(u.ids)], 'update', timestamptz '2020-01-01' + i * interval '1 second', t.id, i, t.id, i,
           '{"field": "status", "from": ' || i % 7 || ', "to": ' || i % 5 || ', "note": "' || repeat('x', i % 60) || '"}'
      from generate_series(1, ${records}::integer) i
     cross join (select array_agg(id) as ids from public.auth_user) u cross join (select min(id) as id from public.django_content_type) t`);
}

async function stateBytes(target: Sql): Promise<number> {
  const [row] = await target<{ bytes: number }[]>`
    select (pg_total_relation_size('public.uuid_mappings_enhanced') + pg_total_relation_size('public.sync_row_states'))::float8 as bytes`;
  return row?.bytes ?? NaN;
}

async function execute(test: TestPlatform, target: Sql, name: string, body: object): Promise<Execution> {
  const { functions } = test.platform;
  const functionsMs = () => functions.isolates().reduce((sum, { cpuMs }) => sum + cpuMs, 0);
  const [targetCpu, sourceCpu, functionCpu] = [await serverCpuMs(target), await serverCpuMs(test.source), functionsMs()];
  const began = performance.now();
  const { execution } = await test.start(body);
  const state = await test.finish(execution, { timeoutMs: 3_600_000, pollMs: 100, tickEveryMs: 60_000 });
  const seconds = (performance.now() - began) / 1_000;
  if (state.status !== "succeeded") throw new Error(`${name}: ${state.status} ${JSON.stringify(state.errors)}`);
  const [log] = await target<{ pages: number; read: number }[]>`
    select count(*)::integer as pages, coalesce(sum(read), 0)::integer as read from public.sync_page_log where execution_id = ${execution}`;
  const [compared] = await target<{ records: number }[]>`
    select coalesce(sum((body ->> 'records')::integer), 0)::integer as records from public.sync_reports where execution_id = ${execution} and kind like 'digest:%'`;
  const records = Math.max(log?.read ?? 0, compared?.records ?? 0);
  return {
    name,
    records,
    seconds,
    pages: log?.pages ?? 0,
    targetCpuMs: (await serverCpuMs(target)) - targetCpu,
    sourceCpuMs: (await serverCpuMs(test.source)) - sourceCpu,
    functionCpuMs: functionsMs() - functionCpu,
  };
}
