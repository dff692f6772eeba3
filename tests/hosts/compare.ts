import { cpus } from "node:os";
import postgres from "postgres";
import type { Hosted } from "../../local/functions/hosted.ts";
import { startTestPlatform, type TestPlatform } from "../support/platform.ts";
import { startTransactionPooler } from "../support/transaction-pooler.ts";

// npm run compare:hosts: the whole clinic on the hosted runtime's double and on the same host without its limits, in turns, on the same
// databases, through a pooler in transaction mode as on a hosted project. Says what each took, and fails when an execution was slower on the double by more than half, or a page was killed twice.

const SCALE = Number(process.env["ISTHMUS_SCALE"] ?? 0.05);
const LOG_SCALE = Number(process.env["ISTHMUS_LOG_SCALE"] ?? 0.002);
const SLOWER = 1.5;
/** As far as a timer of Node reaches. */
const NEVER_MS = 2 ** 31 - 1;

const HOSTS = {
  double: {},
  kind: { cpuSoftMs: Infinity, cpuHardMs: Infinity, memoryBytes: 4 * 2 ** 30, wallClockMs: NEVER_MS, earlyDrop: false },
} as const satisfies Record<string, Partial<Hosted>>;
type Host = keyof typeof HOSTS;

/** What slows the machine down from the first turn to the last weighs on both alike. */
const TURNS: readonly Host[] = ["double", "kind", "kind", "double"];

const EXECUTIONS = [
  { name: "first load", body: {} },
  { name: "everything read again", body: { capture: "full" } },
  { name: "nothing changed", body: {} },
] as const;

interface Run {
  readonly host: Host;
  readonly execution: string;
  readonly seconds: number;
  readonly records: number;
  readonly pages: number;
  readonly starts: number;
  readonly retired: number;
  readonly busy: number;
  readonly killed: number;
  readonly killedTwice: number;
}

await using test = await startTestPlatform("hosts", { scale: SCALE, logScale: LOG_SCALE });
await using pooler = await startTransactionPooler({ serverPort: test.platform.target.port, settings: { default_pool_size: 15 } });
const secrets = { TARGET_DB_URL: pooler.through(test.platform.urls.targetWorker) };
const pristine = await keepPristine(test);
const runs: Run[] = [];
for (const host of TURNS) {
  await test.platform.restartFunctions(HOSTS[host], pristine, secrets);
  for (const { name, body } of EXECUTIONS) runs.push(await execute(test, host, name, body));
}
process.exitCode = report(runs) ? 0 : 1;

async function execute({ platform, ...test }: TestPlatform, host: Host, name: string, body: object): Promise<Run> {
  const { functions, qstash } = platform;
  functions.resetInvocations();
  const [isolates, deliveries] = [functions.isolates().length, qstash.history().length];
  const began = performance.now();
  const { execution } = await test.start(body);
  const state = await test.finish(execution, { tickEveryMs: 60_000, timeoutMs: 3_600_000 });
  const seconds = (performance.now() - began) / 1_000;
  if (state.status !== "succeeded") throw new Error(`${host}: ${name} ${state.status}: ${JSON.stringify(state.errors)}`);
  const calls = functions.invocations().filter((call) => call.function === "sync-page");
  const own = functions
    .isolates()
    .slice(isolates)
    .filter((isolate) => isolate.function === "sync-page");
  const deaths = new Map<string, number>();
  for (const { status, messageId } of qstash.history().slice(deliveries))
    if (status === 546) deaths.set(messageId, (deaths.get(messageId) ?? 0) + 1);
  const run: Run = {
    host,
    execution: name,
    seconds,
    records: state.entities.reduce((sum, { counts }) => sum + counts.read, 0),
    pages: calls.length,
    starts: own.length,
    retired: own.filter(({ ended }) => ended === "early_drop").length,
    busy: calls.filter(({ status }) => status === 429).length,
    killed: calls.filter(({ killed }) => killed !== undefined).length,
    killedTwice: [...deaths.values()].filter((times) => times > 1).length,
  };
  process.stdout.write(`${JSON.stringify(run)}\n`);
  return run;
}

/** Keeps the target as it is now. @returns what brings it back, with an empty cache. */
async function keepPristine({ platform }: TestPlatform): Promise<() => Promise<void>> {
  const admin = async (...statements: readonly string[]) => {
    const sql = postgres(platform.target.superuserUrl(), { max: 1, onnotice: () => undefined });
    for (const statement of statements) await sql.unsafe(statement);
    await sql.end();
  };
  const replace = (to: string, from: string) => [
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${from}'`,
    `drop database if exists ${to} with (force)`,
    `create database ${to} template ${from} owner postgres`,
  ];
  await platform.functions.stop();
  await admin(...replace("pristine", "supabase"));
  return async () => {
    await admin(...replace("supabase", "pristine"));
    await platform.redis.crash();
    await platform.redis.restart();
  };
}

/** @returns whether the double kept what is promised of it. */
function report(all: readonly Run[]): boolean {
  const total = (host: Host, execution: string, what: (run: Run) => number) =>
    all.filter((run) => run.host === host && run.execution === execution).reduce((sum, run) => sum + what(run), 0);
  const lines = EXECUTIONS.map(({ name }) => {
    const [double, kind] = [total("double", name, ({ seconds }) => seconds), total("kind", name, ({ seconds }) => seconds)];
    const rate = (host: Host, seconds: number) => Math.round(total(host, name, ({ records }) => records) / seconds);
    const speeds = `${rate("double", double)} and ${rate("kind", kind)} records/s`;
    process.stdout.write(`${name}: ${double.toFixed(1)} s on the double, ${kind.toFixed(1)} s on the kind host; ${speeds}\n`);
    return double / kind;
  });
  const worst = Math.max(...lines);
  const twice = all.reduce((sum, run) => sum + run.killedTwice, 0);
  process.stdout.write(
    `${cpus().length} cores, ${cpus()[0]?.model ?? ""}; scale ${SCALE}, growing tables ${LOG_SCALE}. The worst ratio is ${worst.toFixed(2)} (limit ${SLOWER}); pages killed twice: ${twice}\n`,
  );
  return worst <= SLOWER && twice === 0;
}
