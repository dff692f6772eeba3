import { rmSync } from "node:fs";
import { cpus } from "node:os";
import { createCertificates } from "../support/certificates.ts";
import { median } from "../support/cpu.ts";
import { keepPristine, startTestPlatform } from "../support/platform.ts";
import { scratchFolder } from "../support/scratch.ts";
import { startTransactionPooler, type TransactionPooler } from "../support/transaction-pooler.ts";
import { numberSet } from "../support/number-set.ts";

// npm run compare:tls: a first load of the whole clinic with both databases behind poolers that encrypt (verify-full
// on both sides) and behind the same poolers in clear, in turns. Says what CPU each took: of the functions that ran
// pages, and of the poolers, which do the server's part.

const SCALE = numberSet("ISTHMUS_SCALE", 0.05, 0.001);
const LOG_SCALE = numberSet("ISTHMUS_LOG_SCALE", 0.002, 0);
const WAYS = ["clear", "tls"] as const;
type Way = (typeof WAYS)[number];
/** What slows the machine down from the first turn to the last weighs on both alike. */
const TURNS: readonly Way[] = ["clear", "tls", "tls", "clear", "clear", "tls"];

const folder = scratchFolder("compare-tls");
const certificates = createCertificates(folder);
const { key, cert } = certificates.sign("IP:127.0.0.1");
// The console of the test comes in clear; what the functions have is looked at.
const encrypted = { client_tls_sslmode: "allow", client_tls_key_file: key, client_tls_cert_file: cert };

await using test = await startTestPlatform("tls-costs", { scale: SCALE, logScale: LOG_SCALE });
const { platform } = test;
const behind = (serverPort: number) => startTransactionPooler({ serverPort, settings: { default_pool_size: 15 } });
await using source = await behind(platform.source.port);
await using target = await behind(platform.target.port);
const pristine = await keepPristine(test);

const runs: { way: Way; records: number; isolates: number; functionMs: number; poolerMs: number }[] = [];
for (const way of TURNS) {
  for (const pooler of [source, target]) await pooler.restart(way === "tls" ? encrypted : {});
  const ca = way === "tls" ? { SOURCE_DB_CA: certificates.ca, TARGET_DB_CA: certificates.ca } : {};
  await platform.restartFunctions({}, pristine, {
    SOURCE_DB_URL: source.through(platform.urls.sourceReader),
    TARGET_DB_URL: target.through(platform.urls.targetWorker),
    ...ca,
  });
  const { execution } = await test.start();
  const state = await test.finish(execution, { tickEveryMs: 60_000, timeoutMs: 3_600_000 });
  if (state.status !== "succeeded") throw new Error(`${way}: ${state.status}: ${JSON.stringify(state.errors)}`);
  await expectClients(way, [source, target]);
  const own = platform.functions.isolates().filter((isolate) => isolate.function === "sync-page");
  const run = {
    way,
    records: state.entities.reduce((sum, { counts }) => sum + counts.read, 0),
    isolates: own.length,
    functionMs: own.reduce((sum, { cpuMs }) => sum + cpuMs, 0),
    poolerMs: source.cpuMs() + target.cpuMs(),
  };
  runs.push(run);
  process.stdout.write(`${JSON.stringify(run)}\n`);
}
for (const what of ["functionMs", "poolerMs"] as const) {
  const per1000 = (way: Way) => median(runs.filter((run) => run.way === way).map((run) => (run[what] * 1_000) / run.records));
  const [clear, tls] = WAYS.map(per1000) as [number, number];
  process.stdout.write(
    `${what}: ${clear.toFixed(1)} CPU ms per 1,000 records in clear, ${tls.toFixed(1)} over TLS (${(tls / clear).toFixed(2)} times), the middle of three runs each\n`,
  );
}
process.stdout.write(`${cpus().length} cores, ${cpus()[0]?.model ?? ""}; scale ${SCALE}, growing tables ${LOG_SCALE}\n`);
rmSync(folder, { recursive: true, force: true });

/** @throws Error when a connection of the functions is not as it was meant to be. */
async function expectClients(way: Way, poolers: readonly TransactionPooler[]): Promise<void> {
  for (const pooler of poolers) {
    const clients = (await pooler.tell<{ user: string; tls: string }>("SHOW CLIENTS")).filter(({ user }) =>
      user.startsWith("isthmus"),
    );
    if (clients.length === 0 || clients.some(({ tls }) => (tls !== "") !== (way === "tls")))
      throw new Error(`not ${way}: ${JSON.stringify(clients.map(({ tls }) => tls))}`);
  }
}
