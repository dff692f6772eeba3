import type { Entity } from "../../shared/entity/define-entity.ts";
import { offices } from "../../clinic/entities/offices.ts";
import type { Context } from "../../shared/context.ts";
import type { PageOutcome } from "../../shared/page/page-outcome.ts";
import { createPipeline, type Pipeline } from "./pipeline.ts";
import type { TestDatabase } from "./databases.ts";

/** Offices, one of whose columns is whatever SQL a test has the source compute. */
export function officesWith(sql: string, column = "address"): Entity {
  return {
    ...offices,
    source: { ...offices.source, columns: { ...offices.source.columns, [column]: { type: "text", sql } } },
  };
}

export interface Limits {
  /** Settings of the sync's role on one side, such as statement_timeout. */
  readonly worker?: Readonly<Record<string, string>>;
  readonly reader?: Readonly<Record<string, string>>;
  readonly entity?: Entity;
  readonly env?: Readonly<Record<string, string>>;
}

/** A pipeline over offices, whose roles have limits. */
export async function limited({ worker = {}, reader = {}, entity = offices, env = {} }: Limits): Promise<Pipeline> {
  const test = await createPipeline({
    entities: [entity],
    env: { ISTHMUS_PAGE_SIZE: "40", ISTHMUS_CHAINS_PER_ENTITY: "1", ISTHMUS_POOL_SIZE: "1", ...env },
  });
  await restrict(test.target, "isthmus_worker", worker);
  await restrict(test.source, "isthmus_reader", reader);
  return test;
}

export async function restrict(db: TestDatabase, role: string, settings: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, value] of Object.entries(settings))
    await db.admin.unsafe(`alter role ${role} in database "${db.name}" set ${name} = '${value}'`);
}

export async function seedOffices(test: Pipeline, count: number): Promise<void> {
  await test.source
    .admin`insert into public.dispatch_office (id, name, valid, emails, phone) select id, 'office ' || id, true, true, '5' from generate_series(1, ${count}) id`;
}

/** A trigger of the target that does something to the row of one office, or to all. */
export async function officeTrigger(test: Pipeline, body: string): Promise<void> {
  await test.target.admin.unsafe(`
    create function public.limit_of_test() returns trigger language plpgsql as $$ begin ${body}; return new; end $$;
    create trigger limit_of_test before insert or update on public.offices for each row execute function public.limit_of_test()`);
}

export interface Ended {
  readonly status: string;
  readonly outcomes: readonly PageOutcome[];
  readonly landed: number[];
  /** Legacy id and rule of what is in the queue. */
  readonly queued: readonly (readonly [number, string])[];
}

/** Most pages and tries that a small execution may take, whatever ends them. */
const BOUNDED = 120;

/**
 * Runs an execution to its end, sweeping like the tick does; throws when it does not end. Leases of workers that were
 * killed are run out at once.
 */
export async function toItsEnd(test: Pipeline, execution: string, context?: Context): Promise<Ended> {
  const outcomes: PageOutcome[] = [];
  for (let tries = 0; (await test.status(execution)).status === "running"; tries++) {
    if (tries > BOUNDED) throw new Error(`no end: ${JSON.stringify(outcomes.slice(-3))} ${await chains(test)}`);
    const message = test.queue.shift() ?? (await overdue(test));
    outcomes.push(await test.run(message, context).catch((error: unknown) => killed(error)));
  }
  const { status } = await test.status(execution);
  const landed = await test.target.admin<{ id: number }[]>`select legacy_office_id::integer as id from public.offices order by 1`;
  const live = await test.live("offices");
  return { status, outcomes, landed: landed.map(({ id }) => id), queued: live.map(({ id, rule }) => [id, rule] as const) };
}

/** What a worker throws that was killed: nothing hears of it. */
export class Killed extends Error {}

function killed(error: unknown): PageOutcome {
  if (error instanceof Killed || (error instanceof Error && error.cause instanceof Killed)) return { outcome: "stale" };
  throw error;
}

async function overdue(test: Pipeline) {
  await test.target
    .admin`update public.sync_chains set due_at = now(), lease_until = least(lease_until, now()) where state = 'open'`;
  const [row] = await test.target.admin<{ chain: string; page: number; execution: string }[]>`
    select id as chain, page, execution_id as execution from public.sync_chains where state = 'open' order by created_at, id limit 1`;
  if (!row) throw new Error(`nothing is open: ${await chains(test)}`);
  return row;
}

async function chains(test: Pipeline): Promise<string> {
  return JSON.stringify(
    await test.target.admin`select capture, state, page, page_size, failures, crashes, last_error from public.sync_chains`,
  );
}

/** Each record of the source is landed or in the queue, and each page accounts for what it read. */
export async function expectAccounted(test: Pipeline, execution: string, ended: Ended, count: number): Promise<void> {
  const known = new Set([...ended.landed, ...ended.queued.map(([id]) => id)]);
  const lost = Array.from({ length: count }, (_, n) => n + 1).filter((id) => !known.has(id));
  if (lost.length > 0) throw new Error(`neither landed nor queued: ${lost.join(", ")}`);
  const sums = await test.sums(execution);
  if (sums.read !== sums.outcomes) throw new Error(`read ${sums.read}, told ${sums.outcomes}`);
}
