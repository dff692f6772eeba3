import { cpus } from "node:os";
import { keepPristine, startTestPlatform } from "../support/platform.ts";
import { startTransactionPooler } from "../support/transaction-pooler.ts";
import { execute, EXECUTIONS, HOSTS, SLOWER, slowerOnDouble, total, type Host, type Run } from "./executions.ts";
import { numberSet } from "../support/number-set.ts";

// npm run compare:hosts: the whole clinic on the hosted runtime's double and on the same host without its limits, in
// turns, on the same databases, through a pooler in transaction mode as on a hosted project. Says what each took, and
// fails when an execution was slower on the double by more than half, or a page was killed twice.

const SCALE = numberSet("ISTHMUS_SCALE", 0.05, 0.001);
const LOG_SCALE = numberSet("ISTHMUS_LOG_SCALE", 0.002, 0);

/** What slows the machine down from the first turn to the last weighs on both alike. */
const TURNS: readonly Host[] = ["double", "kind", "kind", "double"];

await using test = await startTestPlatform("hosts", { scale: SCALE, logScale: LOG_SCALE });
await using pooler = await startTransactionPooler({ serverPort: test.platform.target.port, settings: { default_pool_size: 15 } });
const secrets = { TARGET_DB_URL: pooler.through(test.platform.urls.targetWorker) };
const pristine = await keepPristine(test);
const runs: Run[] = [];
for (const host of TURNS) {
  await test.platform.restartFunctions(HOSTS[host], pristine, secrets);
  for (const execution of EXECUTIONS) {
    const run = await execute(test, host, execution);
    process.stdout.write(`${JSON.stringify(run)}\n`);
    runs.push(run);
  }
}
process.exitCode = report(runs) ? 0 : 1;

/** @returns whether the double kept what is promised of it. */
function report(all: readonly Run[]): boolean {
  for (const name of EXECUTIONS) {
    const [double, kind] = (["double", "kind"] as const).map((host) => {
      const seconds = total(all, host, name, (run) => run.seconds);
      return { seconds: seconds.toFixed(1), speed: Math.round(total(all, host, name, ({ records }) => records) / seconds) };
    });
    process.stdout.write(
      `${name}: ${double?.seconds} s on the double, ${kind?.seconds} s on the kind host; ${double?.speed} and ${kind?.speed} records/s\n`,
    );
  }
  const worst = Math.max(...EXECUTIONS.map((name) => slowerOnDouble(all, name)));
  const twice = all.reduce((sum, run) => sum + run.killedTwice, 0);
  process.stdout.write(
    `${cpus().length} cores, ${cpus()[0]?.model ?? ""}; scale ${SCALE}, growing tables ${LOG_SCALE}. The worst ratio is ${worst.toFixed(2)} (limit ${SLOWER}); pages killed twice: ${twice}\n`,
  );
  return worst <= SLOWER && twice === 0;
}
