import { expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const env = { ISTHMUS_PAGE_TRIES: "3", ISTHMUS_STALLED_MINUTES: "60" };
interface Stalled {
  readonly code: string;
  readonly entity?: string;
  readonly message: string;
  readonly remedy: string;
  readonly passes?: boolean;
  readonly cause?: { readonly code: string; readonly sqlstate?: string };
}

/** Two entities that do not depend on each other, one record each. */
async function createTwo(): Promise<Pipeline> {
  const test = await createPipeline({ env });
  await test.seed.office(1);
  await test.seed.operation(1);
  return test;
}

async function ended(test: Pipeline, execution: string) {
  const [row] = await test.target.admin<
    { status: string; errors: Stalled[] | null }[]
  >`select status, errors from public.sync_executions where id = ${execution}`;
  return { ...row };
}

const openAlerts = async (test: Pipeline) =>
  (
    await test.target.admin<{ kind: string; entity: string | null }[]>`
      select a.kind, e.entity_type as entity from public.sync_alerts a left join public.sync_entities e on e.id = a.entity_id
       where a.closed_at is null and a.kind <> 'contract_warning' order by 1`
  ).map(({ kind, entity }) => (entity === null ? kind : `${kind} ${entity}`));

/** Nothing has moved for so long, as the database's clock sees it. */
async function letPass(test: Pipeline, minutes: number, unclaimed: number): Promise<void> {
  await test.target.admin`alter table public.sync_chains disable trigger note_progress`;
  await test.target
    .admin`update public.sync_executions set started_at = started_at - make_interval(mins => ${minutes}) where status = 'running'`;
  await test.target
    .admin`update public.sync_chains set moved_at = moved_at - make_interval(mins => ${minutes}), unclaimed = ${unclaimed} where state = 'open'`;
  await test.target
    .admin`update public.sync_chains set moved_at = moved_at - make_interval(mins => ${minutes}) where state <> 'open'`;
  await test.target.admin`alter table public.sync_chains enable trigger note_progress`;
}

it("a page that kills whoever takes it is stopped; one at work is not", async () => {
  await using test = await createTwo();
  const { execution } = await test.start({ entities: ["offices", "operations"] });
  const id = await test.target.admin<{ id: number }[]>`select id from public.sync_entities where entity_type = 'operations'`;
  const lease = (until: string) =>
    test.target.admin.unsafe(
      `update public.sync_chains set failures = 2, lease = lease + 1, lease_until = now() + interval '${until}' where entity_id = ${id[0]?.id ?? 0}`,
    );
  await lease("1 minute");
  await tick(test.context);
  expect((await ended(test, execution)).status).toBe("running");
  await lease("-1 second");
  test.queue.length = 0;
  await tick(test.context);
  await test.target.admin`update public.sync_chains set due_at = now() where state = 'open'`;
  await tick(test.context);
  await test.drain();
  const end = await ended(test, execution);
  expect(end).toMatchObject({ status: "failed", errors: [{ code: "PAGE_STALLED", entity: "operations", passes: false }] });
  expect(end.errors?.[0]?.message).toContain("it was begun 3 times, and the last function that took it was killed");
  expect((await test.target.admin`select from public.offices`).length).toBe(1);
});

it("an execution whose pages nobody takes ends, but not before they were sent, nor while another chain moves", async () => {
  await using test = await createTwo();
  await test.target
    .admin`insert into public.sync_jobs (name, schedule_type, cron_expression) values ('hourly', 'cron', '0 * * * *')`;
  const [job] = await test.target.admin<{ id: string }[]>`select id from public.sync_jobs where name = 'hourly'`;
  const { execution } = await test.start({ entities: ["offices", "operations"], jobId: job?.id ?? "" });
  await test.target.admin`update public.sync_jobs set next_execution_at = now() + interval '20 hours'`;
  // The ticks have not run for an hour: nothing was sent, so nothing is judged.
  await letPass(test, 61, 0);
  await tick(test.context);
  expect((await ended(test, execution)).status).toBe("running");
  // One of the chains moves.
  const [message] = test.queue.splice(0);
  if (!message) throw new Error("no page");
  await letPass(test, 61, 9);
  expect((await test.run(message)).outcome).not.toBe("failed");
  await tick(test.context);
  expect((await ended(test, execution)).status).toBe("running");
  await letPass(test, 61, 9);
  await tick(test.context);
  const end = await ended(test, execution);
  expect(end).toMatchObject({ status: "failed", errors: [{ code: "PAGE_STALLED", passes: true }] });
  expect(end.errors?.[0]?.message).toContain("it was sent 9 times and not begun");
  // What passes by itself does not cost the job its day.
  const [again] = await test.target.admin<
    { status: string; soon: boolean; code: string }[]
  >`select status, next_execution_at < now() + interval '31 minutes' as soon, last_error #>> '{errors,0,code}' as code from public.sync_jobs where name = 'hourly'`;
  expect(again).toEqual({ status: "failed", soon: true, code: "PAGE_STALLED" });
});

it("an execution of which nothing can begin ends, and one that cannot be opened holds up no other", async () => {
  await using test = await createTwo();
  await test.sync({ entities: ["offices"] });
  await test.seed.office(2);
  const { execution } = await test.start({ entities: ["offices"] });
  test.queue.length = 0;
  // Without a page size its chains cannot be made: what no execution of ours looks like, and what must not stop the
  // others.
  const [stuck] = await test.target.admin<{ id: string }[]>`
    insert into public.sync_executions (source_id, triggered_by, entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid, server_start, source_time)
    select source_id, 'http:test', '{operations}', horizon, snapshot_xmax, system_identifier, timeline, database_oid, server_start, source_time
      from public.sync_executions where id = ${execution} returning id`;
  await test.target.admin`update public.sync_entities set adoption_epoch = 1 where entity_type = 'operations'`;
  await test.target
    .admin`insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 1, 'test' from public.sync_entities where entity_type = 'operations'`;
  await test.target.admin`update public.sync_chains set due_at = now() where state = 'open'`;
  await tick(test.context);
  await test.drain();
  expect((await ended(test, execution)).status).toBe("succeeded");
  expect(await openAlerts(test)).toEqual(["execution_stuck"]);
  await letPass(test, 61, 0);
  await tick(test.context);
  expect(await ended(test, stuck?.id ?? "")).toMatchObject({ status: "failed", errors: [{ code: "EXECUTION_STALLED" }] });
});

it("keys whose page made no progress are read again after pauses that grow, not at every tick", async () => {
  await using test = await createTwo();
  await test.sync({ entities: ["offices"] });
  await test.target
    .admin`insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 1, 'requested' from public.sync_entities where entity_type = 'offices'`;
  expect((await tick(test.context)).released).toEqual(["offices"]);
  await letPass(test, 61, 9);
  test.queue.length = 0;
  expect((await tick(test.context)).released).toEqual([]);
  expect(await openAlerts(test)).toEqual(["execution_failed", "page_stalled offices"]);
  await test.target.admin`update public.sync_alerts set last_seen_at = now() - interval '61 minutes'`;
  expect((await tick(test.context)).released).toEqual(["offices"]);
  await test.drain();
  expect(await openAlerts(test)).toEqual([]);
  expect((await test.target.admin`select from public.sync_pending_keys`).length).toBe(0);
});
