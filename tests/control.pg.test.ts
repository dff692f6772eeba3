import { describe, expect, it } from "vitest";
import { control, type Kind, type Word } from "../shared/target/control.ts";
import { startDueJobs } from "../shared/tick/start-jobs.ts";
import { tick } from "../shared/tick/tick.ts";
import { asRole, outcomeOf } from "./support/data-api.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { refused, studio } from "./support/studio.ts";

const env = { ISTHMUS_PAGE_SIZE: "2", ISTHMUS_PAGE_SIZE_MAX: "2", ISTHMUS_PAGE_TRIES: "3" };
const OFFICES = 5;

async function clinic(): Promise<Pipeline> {
  const test = await createPipeline({ env });
  for (let id = 1; id <= OFFICES; id++) await test.seed.office(id);
  return test;
}

const sourceOf = async (test: Pipeline) =>
  (await test.target.admin<{ id: number }[]>`select id from public.sync_sources`)[0]?.id ?? 0;
/** As it is said over HTTP. */
const say = async (test: Pipeline, word: Word, kind: Kind, name: string) =>
  control(test.context.target, await sourceOf(test), { kind, name, word, by: "http:test" });
const landed = async (test: Pipeline) => (await test.target.admin`select from public.offices`).length;
const alertsOf = async (test: Pipeline, kind: string) => [
  ...(await test.target.admin<{ message: string; open: boolean }[]>`
    select message, closed_at is null as open from public.sync_alerts where kind = ${kind} order by first_seen_at`),
];
/** Runs what the queue has, and what ticks send, until nothing comes any more. */
async function settle(test: Pipeline): Promise<string[]> {
  const outcomes: string[] = [];
  for (let rounds = 0; rounds < 40; rounds++) {
    await tick(test.context);
    if (test.queue.length === 0) return outcomes;
    outcomes.push(...(await test.drain()).map(({ outcome }) => outcome));
  }
  throw new Error("still busy");
}

interface Level {
  readonly table: string;
  readonly kind: Kind;
  /** The name by which people call it, and its row. */
  readonly of: (test: Pipeline, execution: string) => Promise<{ name: string; id: string }>;
}
const one = async (test: Pipeline, statement: string) => {
  const [row] = await test.target.admin.unsafe<{ name: string; id: string }[]>(statement);
  if (!row) throw new Error("no row");
  return row;
};
const LEVELS: readonly Level[] = [
  {
    table: "sync_jobs",
    kind: "job",
    of: (test) => one(test, "select name, id::text from public.sync_jobs where name = 'hourly'"),
  },
  { table: "sync_executions", kind: "execution", of: (_test, id) => Promise.resolve({ name: id, id }) },
  {
    table: "sync_entities",
    kind: "entity",
    of: (test) => one(test, "select entity_type as name, id::text from public.sync_entities where entity_type = 'offices'"),
  },
  {
    table: "sync_chains",
    kind: "chain",
    of: (test, id) =>
      one(
        test,
        `select c.id::text as name, c.id::text from public.sync_chains c where execution_id = '${id}' and capture = 'full'`,
      ),
  },
];

/** A full pass of a job over the offices, of which one page has landed. The message of the next waits. */
async function halfWay(test: Pipeline): Promise<string> {
  await test.target.admin`
    insert into public.sync_jobs (name, schedule_type, cron_expression, next_execution_at, configuration)
    values ('hourly', 'cron', '0 * * * *', now() + interval '1 hour', '{"entities": ["offices"], "capture": "full"}')`;
  const [job] = await test.target.admin<{ id: string }[]>`select id from public.sync_jobs where name = 'hourly'`;
  const { execution } = await test.start({ entities: ["offices"], capture: "full", jobId: job?.id ?? "" });
  await test.runJoins();
  expect((await test.runOne()).outcome).toBe("committed");
  expect(await landed(test)).toBe(2);
  return execution;
}

describe.each(LEVELS)("$kind", ({ table, kind, of }) => {
  const edit = (test: Pipeline, word: Word | null, id: string) =>
    studio(test, `update public.${table} set control = ${word === null ? "null" : `'${word}'`} where id::text = '${id}'`);

  it.each(["studio", "http"])(
    "paused claims no page, loses none, is no stall and is told; resumed it goes on where it stood (%s)",
    async (way) => {
      await using test = await clinic();
      const execution = await halfWay(test);
      const { name, id } = await of(test, execution);
      const give = (word: Word) => (way === "studio" ? edit(test, word, id) : say(test, word, kind, name));
      const [message] = test.queue.splice(0);
      if (!message) throw new Error("no page");
      await give("pause");
      // The message in flight, twice, and late.
      for (let times = 0; times < 2; times++) expect(await test.run(message)).toEqual({ outcome: "paused" });
      // A day without a word: neither stalled nor sent.
      await test.target
        .admin`update public.sync_chains set moved_at = now() - interval '1 day', unclaimed = case state when 'open' then 9 else 0 end`;
      expect(await settle(test)).toEqual([]);
      expect(await test.status(execution)).toMatchObject({ status: "running" });
      expect(await alertsOf(test, "paused_long")).toEqual([]);
      await test.target.admin.unsafe(
        `update public.${table} set controlled_at = now() - interval '25 hours' where id::text = '${id}'`,
      );
      await tick(test.context);
      expect(await alertsOf(test, "paused_long")).toEqual([
        { open: true, message: expect.stringContaining(`npm run sync -- resume ${kind} `) as string },
      ]);
      await give("resume");
      expect(await settle(test)).toContain("committed");
      expect(await test.status(execution)).toMatchObject({ status: "succeeded", errors: null });
      expect(await landed(test)).toBe(OFFICES);
      const { read, outcomes, processed, pages } = await test.sums(execution);
      expect({ read, outcomes, processed, pages }).toEqual({ read: OFFICES, outcomes: OFFICES, processed: OFFICES, pages: 3 });
      expect(await alertsOf(test, "paused_long")).toMatchObject([{ open: false }]);
      expect(await test.run(message)).toMatchObject({ outcome: "closed" });
    },
  );

  it.each(["studio", "http"])("cancelled ends with all that it landed, and begins no page (%s)", async (way) => {
    await using test = await clinic();
    const execution = await halfWay(test);
    const { name, id } = await of(test, execution);
    const [message] = test.queue.splice(0);
    if (!message) throw new Error("no page");
    if (way === "studio") {
      await edit(test, "cancel", id);
      expect((await test.run(message)).outcome).toBe("paused");
      await tick(test.context);
    } else expect(await say(test, "cancel", kind, name)).toMatchObject({ waits: false, pagesAtWork: 0 });
    expect((await test.run(message)).outcome).toBe("closed");
    const whole = kind === "job" || kind === "execution";
    expect(await test.status(execution)).toMatchObject({
      status: whole ? "cancelled" : "failed",
      errors: [{ code: "EXECUTION_CANCELLED" }],
    });
    expect(await test.sums(execution)).toEqual({ read: 2, outcomes: 2, processed: 2, pages: 1 });
    expect(await landed(test)).toBe(2);
    expect((await test.target.admin.unsafe(`select from public.${table} where control is not null`)).length).toBe(0);
    await test.sync({ entities: ["offices"] });
    expect(await landed(test)).toBe(OFFICES);
  });

  it.each(["studio", "http"])(
    "retried goes on from where its failed chain stood, and not from the first record (%s)",
    async (way) => {
      await using test = await clinic();
      const execution = await halfWay(test);
      await test.target.admin`
      create function public.wait() returns trigger language plpgsql as $$ begin raise 'later' using errcode = '40P01'; end $$`;
      await test.target.admin`create trigger wait before insert on public.offices for each row execute function public.wait()`;
      for (let tries = 0; tries < 3; tries++) {
        await test.target.admin`update public.sync_chains set due_at = now() where state = 'open'`;
        await settle(test);
      }
      expect(await test.status(execution)).toMatchObject({ status: "failed", errors: [{ code: "PAGE_STALLED" }] });
      await test.target.admin`drop trigger wait on public.offices`;
      const { name, id } = await of(test, execution);
      if (way === "studio") await edit(test, "retry", id);
      else expect(await say(test, "retry", kind, name)).toMatchObject({ waits: false, executions: [execution] });
      await settle(test);
      expect(await test.status(execution)).toMatchObject({ status: "succeeded", errors: null });
      expect(await landed(test)).toBe(OFFICES);
      expect(await test.sums(execution)).toEqual({ read: OFFICES, outcomes: OFFICES, processed: OFFICES, pages: 3 });
      // What its pages have counted is in the totals of metrics once, although it has ended twice.
      const [counted] = await test.target.admin<{ totals: number; pages: number }[]>`
        select (select sum((counts ->> 'pages')::numeric)::integer from public.sync_totals where entity_id is not null) as totals,
               (select count(*)::integer from public.sync_page_log) as pages`;
      expect(counted?.totals).toBe(counted?.pages);
      for (const told of ["execution_failed", "page_stalled"])
        expect(await alertsOf(test, told)).toMatchObject([{ open: false }]);
      expect((await test.target.admin`select status from public.sync_jobs where name = 'hourly'`)[0]).toEqual({
        status: "succeeded",
      });
      expect(await refused(edit(test, "retry", id))).toMatchObject({ code: "IS032" });
    },
  );

  it("what has no meaning is refused with why, by everybody; only operators and the worker may say it", async () => {
    await using test = await clinic();
    const execution = await halfWay(test);
    const { name, id } = await of(test, execution);
    expect(await refused(edit(test, "resume", id))).toMatchObject({ code: "IS032", message: `${kind} ${name} is not paused` });
    expect(await refused(edit(test, "retry", id))).toMatchObject({ code: "IS032" });
    await expect(say(test, "resume", kind, name)).rejects.toMatchObject({ code: "CONTROL_REFUSED" });
    const as = (role: "operator" | "reviewer" | "authenticated" | "anon" | "service_role", claims = {}) =>
      outcomeOf(
        asRole(
          test.target.admin,
          role,
          async (tx) => {
            const { count } = await tx.unsafe(`update public.${table} set control = 'pause' where id::text = '${id}'`);
            if (count === 0) throw Object.assign(new Error("no row"), { code: "no row" });
          },
          claims,
        ),
      );
    expect([await as("reviewer"), await as("authenticated"), await as("anon"), await as("service_role")]).toEqual([
      "no row",
      "no row",
      "42501",
      "42501",
    ]);
    expect(await as("operator", { sub: "77", email: "op@clinic.example" })).toBe("allowed");
    const [row] = await test.target.admin.unsafe<{ control: string; by: string }[]>(
      `select control, controlled_by as by from public.${table} where id::text = '${id}'`,
    );
    expect(row).toEqual({ control: "pause", by: "op@clinic.example" });
    expect(
      await say(test, "pause", kind, kind === "job" || kind === "entity" ? "nothing" : "00000000-0000-4000-8000-000000000000"),
    ).toBe(null);
    if (kind === "execution" || kind === "chain") {
      await say(test, "cancel", kind, name);
      await tick(test.context);
      for (const word of ["pause", "resume", "cancel"] as const)
        expect(await refused(edit(test, word, id))).toMatchObject({ code: "IS032" });
    }
  });
});

describe("a paused entity", () => {
  it("is left out of executions, which say so; the others run, its children wait, and it comes back by a resume alone", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.sync({ entities: ["offices"] });
    await say(test, "pause", "entity", "offices");
    await test.seed.office(2);
    const begun = await test.sync({ entities: ["offices", "profiles"] });
    expect(begun.paused).toMatchObject([{ entity: "offices", findings: [{ code: "entity_paused" }] }]);
    expect(await test.status(begun.execution)).toMatchObject({
      status: "incomplete",
      errors: [{ code: "ENTITY_LEFT_OUT", entity: "offices" }],
    });
    await expect(test.start({ entities: ["offices"] })).rejects.toMatchObject({ code: "ENTITY_PAUSED" });
    expect(await alertsOf(test, "contract_broken")).toEqual([]);
    // The machine pauses it, too: its resume leaves the person's pause as it is.
    await test.source.admin`alter table public.dispatch_office rename column city to town`;
    await expect(test.start({ entities: ["offices"] })).rejects.toMatchObject({ code: "CONTRACT_BROKEN" });
    expect(await alertsOf(test, "contract_broken")).toMatchObject([{ open: true }]);
    await test.source.admin`alter table public.dispatch_office rename column town to city`;
    await expect(test.start({ entities: ["offices"] })).rejects.toMatchObject({ code: "ENTITY_PAUSED" });
    expect(await alertsOf(test, "contract_broken")).toMatchObject([{ open: false }]);
    await say(test, "resume", "entity", "offices");
    await test.sync({ entities: ["offices"] });
    expect(await landed(test)).toBe(2);
  });

  it("keeps what was asked for of it, and a tick that finds nothing else to do has not failed", async () => {
    await using test = await clinic();
    await test.sync({ entities: ["offices"] });
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 1, 'requested' from public.sync_entities where entity_type = 'offices'`;
    await say(test, "pause", "entity", "offices");
    expect(await settle(test)).toEqual([]);
    expect(
      (await test.target.admin`select from public.sync_ticks t cross join unnest(t.failed) f where f like 'release:%'`).length,
    ).toBe(0);
    expect((await test.target.admin`select from public.sync_pending_keys`).length).toBe(1);
    await say(test, "resume", "entity", "offices");
    expect(await settle(test)).toContain("committed");
    expect((await test.target.admin`select from public.sync_pending_keys`).length).toBe(0);
  });
});

describe("a job", () => {
  it("that is paused does not begin; what it has missed it does once when it is resumed; one without a time begins when somebody says so", async () => {
    await using test = await clinic();
    await test.target.admin`delete from public.sync_jobs`;
    await test.target.admin`
      insert into public.sync_jobs (name, schedule_type, cron_expression, next_execution_at, configuration) values
        ('hourly', 'cron', '0 0 1 1 *', now() - interval '9 hours', '{"entities": ["offices"]}'),
        ('asked', 'on_demand', null, null, '{"entities": ["offices"]}')`;
    await say(test, "pause", "job", "hourly");
    expect(await startDueJobs(test.context)).toEqual([]);
    await say(test, "resume", "job", "hourly");
    expect(await startDueJobs(test.context)).toHaveLength(1);
    await settle(test);
    expect(await startDueJobs(test.context)).toEqual([]);
    await test.target.admin`update public.sync_jobs set next_execution_at = now() - interval '1 minute' where name = 'asked'`;
    expect(await startDueJobs(test.context)).toHaveLength(1);
    await settle(test);
    const jobs = await test.target
      .admin`select name, status, next_execution_at is null as never from public.sync_jobs order by name`;
    expect(jobs.map((row) => ({ ...row }))).toEqual([
      { name: "asked", status: "succeeded", never: true },
      { name: "hourly", status: "succeeded", never: false },
    ]);
  });
});

it("what a person has cancelled stays so when another chain of its execution is retried", { timeout: 60_000 }, async () => {
  await using test = await clinic();
  const execution = await halfWay(test);
  const [cancelled] = await test.target.admin<{ id: string }[]>`
    insert into public.sync_chains (execution_id, entity_id, capture, page_size, state, closed_at, last_error)
    select ${execution}, id, 'full', 100, 'cancelled', now(), '{"code": "EXECUTION_CANCELLED"}' from public.sync_entities where entity_type = 'doctors'
    returning id`;
  const [failed] = await test.target.admin<{ id: string }[]>`
    update public.sync_chains set state = 'failed', closed_at = now(), lease_until = null, due_at = null, last_error = '{"code": "INTERNAL"}'
     where execution_id = ${execution} and state = 'open' returning id`;
  await settle(test);
  expect((await test.status(execution)).status).toBe("failed");
  expect(await say(test, "retry", "chain", failed?.id ?? "")).toMatchObject({ executions: [execution] });
  await settle(test);
  const states = await test.target.admin<{ id: string; state: string }[]>`
    select id, state from public.sync_chains where id in (${failed?.id ?? ""}, ${cancelled?.id ?? ""})`;
  expect(new Map(states.map(({ id, state }) => [id, state]))).toEqual(
    new Map([
      [failed?.id, "done"],
      [cancelled?.id, "cancelled"],
    ]),
  );
});
