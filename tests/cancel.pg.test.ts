import postgres from "postgres";
import { expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
import { cancelExecutions } from "../shared/target/ends.ts";
import { asRole, outcomeOf } from "./support/data-api.ts";
import { ownerUrl } from "./support/databases.ts";
import { Gate, gated } from "./support/gate.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const env = { ISTHMUS_PAGE_SIZE: "2", ISTHMUS_PAGE_SIZE_MAX: "2" };

async function createFive(): Promise<Pipeline> {
  const test = await createPipeline({ env });
  for (let id = 1; id <= 5; id++) await test.seed.office(id);
  return test;
}

async function execution(test: Pipeline, id: string) {
  const [row] = await test.target.admin<
    { status: string; by: string | null; read: number; closed: boolean; settled: boolean; code: string; open: number }[]
  >`select status, cancelled_by as by, records_processed::integer as read, completed_at is not null as closed, metrics is not null as settled,
           errors #>> '{0,code}' as code,
           (select count(*)::integer from public.sync_chains where execution_id = x.id and state in ('blocked', 'open')) as open
      from public.sync_executions x where id = ${id}`;
  return { ...row };
}
const checkpoints = (test: Pipeline) => test.target.admin`select * from public.sync_checkpoints`;

/** As the table editor does it. */
async function setStatus(test: Pipeline, id: string, status: string): Promise<unknown> {
  const studio = postgres(ownerUrl(test.target), { max: 1, onnotice: () => undefined });
  try {
    return await outcomeOf(studio.unsafe("update public.sync_executions set status = $1 where id = $2", [status, id]));
  } finally {
    await studio.end();
  }
}

it.each([1, 4, 7].flatMap((statement) => [false, true].map((dryRun) => ({ statement, dryRun }))))(
  "status set to cancelled in the table editor while a page is at work, at its statement $statement, ends the execution at its commit (dry run: $dryRun)",
  async ({ statement, dryRun }) => {
    await using test = await createFive();
    await test.target
      .admin`insert into public.sync_jobs (name, schedule_type, cron_expression, next_execution_at) values ('hourly', 'cron', '0 * * * *', now() + interval '1 hour')`;
    const [job] = await test.target.admin<{ id: string }[]>`select id from public.sync_jobs where name = 'hourly'`;
    const begun = await test.start({ entities: ["offices"], jobId: job?.id ?? "", dryRun });
    await test.runJoins();
    const message = test.queue.shift();
    if (!message) throw new Error("no page");
    const gate = new Gate(statement);
    const page = test.run(message, gated(test.context, gate));
    await Promise.race([gate.reached, page]);
    expect(await setStatus(test, begun.execution, "cancelled")).toBe("allowed");
    await tick(test.context);
    expect(await execution(test, begun.execution)).toMatchObject({
      status: "cancelled",
      closed: true,
      settled: false,
      by: "postgres",
    });
    gate.open();
    expect((await page).outcome).toBe("committed");
    // Its next page does not begin.
    expect((await test.drain()).map(({ outcome }) => outcome)).toEqual(["closed"]);
    await tick(test.context);
    expect(await execution(test, begun.execution)).toEqual({
      status: "cancelled",
      by: "postgres",
      read: 2,
      closed: true,
      settled: true,
      code: "EXECUTION_CANCELLED",
      open: 0,
    });
    expect(await checkpoints(test)).toEqual([]);
    expect((await test.target.admin`select from public.offices`).length).toBe(dryRun ? 0 : 2);
    expect(await test.target.admin`select from public.sync_planned_records`).toHaveLength(0);
    expect(await test.target.admin`select from public.sync_alerts where kind <> 'contract_warning'`).toHaveLength(0);
    expect((await test.target.admin`select status from public.sync_jobs where name = 'hourly'`)[0]).toEqual({
      status: "pending",
    });
    await test.sync({ entities: ["offices"] });
    expect((await test.target.admin`select from public.offices`).length).toBe(5);
  },
);

it("a page that has lost its chain to a cancellation answers that it is closed, and what was asked for stays asked for", async () => {
  await using test = await createFive();
  const begun = await test.start({ entities: ["offices"], legacyIds: { offices: ["1", "2", "3", "4", "5"] } });
  const message = test.queue.shift();
  if (!message) throw new Error("no page");
  const gate = new Gate(4);
  const page = test.run(message, gated(test.context, gate));
  await gate.reached;
  expect(await cancelExecutions(test.context.target, begun.execution, "http:test")).toEqual([
    { execution: begun.execution, status: "cancelled", pagesAtWork: 1 },
  ]);
  await test.target.admin`update public.sync_chains set lease_until = now() - interval '1 second'`;
  await tick(test.context);
  test.queue.length = 0;
  gate.open();
  expect((await page).outcome).toBe("closed");
  expect(await execution(test, begun.execution)).toMatchObject({
    status: "cancelled",
    by: "http:test",
    read: 0,
    settled: true,
    open: 0,
  });
  expect((await test.target.admin`select from public.sync_pending_keys`).length).toBe(5);
  await tick(test.context);
  await test.drain();
  expect((await test.target.admin`select from public.offices`).length).toBe(5);
});

it("a plan is cancelled too, and what it had found out is forgotten", async () => {
  await using test = await createFive();
  const begun = await test.start({ entities: ["offices"], dryRun: true });
  await test.runJoins();
  const message = test.queue.shift();
  if (!message) throw new Error("no page");
  await test.run(message);
  expect((await test.target.admin`select from public.sync_planned_records`).length).toBe(2);
  await cancelExecutions(test.context.target, null, "http:test");
  expect((await test.drain()).every(({ outcome }) => outcome === "closed")).toBe(true);
  await tick(test.context);
  expect(await execution(test, begun.execution)).toMatchObject({ status: "cancelled", settled: true, open: 0 });
  expect((await test.target.admin`select from public.sync_planned_records`).length).toBe(0);
  expect(await test.target.admin`select from public.sync_alerts where kind <> 'contract_warning'`).toHaveLength(0);
});

it("an execution ends once: what has ended cannot be cancelled, and nobody sets one that runs to succeeded", async () => {
  await using test = await createFive();
  const first = await test.sync({ entities: ["offices"] });
  await expect(cancelExecutions(test.context.target, first.execution, "http:test")).rejects.toMatchObject({
    code: "EXECUTION_CLOSED",
  });
  expect(await cancelExecutions(test.context.target, null, "http:test")).toEqual([]);
  for (const status of ["cancelled", "running", "failed"]) expect(await setStatus(test, first.execution, status)).toBe("IS031");

  const second = await test.start({ entities: ["offices"], capture: "full" });
  const as = (role: "operator" | "reviewer", status: string, claims = {}) =>
    outcomeOf(
      asRole(
        test.target.admin,
        role,
        async (tx) => {
          const { count } =
            await tx`update public.sync_executions set status = ${status}::public.sync_execution_status where id = ${second.execution}`;
          if (count === 0) throw Object.assign(new Error("no row"), { code: "no row" });
        },
        claims,
      ),
    );
  expect(await setStatus(test, second.execution, "succeeded")).toBe("IS031");
  expect(await as("operator", "succeeded")).toBe("IS031");
  expect(await as("reviewer", "cancelled")).toBe("no row");
  expect((await execution(test, second.execution)).status).toBe("running");
  expect(await as("operator", "cancelled", { sub: "77", email: "op@clinic.example" })).toBe("allowed");
  await tick(test.context);
  expect(await execution(test, second.execution)).toMatchObject({
    status: "cancelled",
    by: "op@clinic.example",
    settled: true,
    open: 0,
  });
});
