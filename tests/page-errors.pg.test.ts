import { describe, expect, it } from "vitest";
import { startDueJobs } from "../shared/tick/start-jobs.ts";
import { addressesOf } from "../shared/db/connect.ts";
import { claimPage } from "../shared/target/claims.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Context } from "../shared/context.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { createStrangers, ENTITY, type Stranger } from "./support/stranger.ts";

const TABLES: Stranger = { source: "old", target: "new", columns: { name: { type: "text" } } };
const OTHER: Stranger = { name: "others", source: "old_other", target: "new_other", columns: { name: { type: "text" } } };

async function two(): Promise<Pipeline> {
  const test = await createStrangers([TABLES, OTHER]);
  for (const { source } of [TABLES, OTHER]) await test.source.admin.unsafe(`insert into public.${source} values (1, 'x')`);
  await test.sync();
  return test;
}
interface Told {
  readonly kind: string;
  readonly severity: string;
  readonly subject: string;
  readonly message: string;
  readonly occurrences: number;
}
const told = async (test: Pipeline) => [
  ...(await test.target.admin<Told[]>`
    select kind, severity, subject, message, occurrences from public.sync_alerts
     where closed_at is null and kind in ('page_retried', 'internal_error', 'validation_failed', 'job_waits', 'job_failed') order by kind, subject`),
];
const kinds = async (test: Pipeline) => (await told(test)).map(({ kind, subject }) => `${kind}: ${subject}`);
/** An error that nobody has expected, wherever a page asks for memory. */
const defective = (context: Context): Context => ({
  ...context,
  meter: {
    heapBytes: () => {
      throw new TypeError("a defect");
    },
  },
});
/** Every page that waits is run, and what failed is due again. */
async function tryAll(test: Pipeline, context: Context = test.context): Promise<void> {
  await test.target.admin`update public.sync_chains set due_at = now() where state = 'open' and lease_until is null`;
  await tick(test.context);
  for (const message of test.queue.splice(0)) await test.run(message, context);
}

describe("a page that is tried in vain", () => {
  /** The table is locked, so that each page of its entity ends at a limit that time lifts. */
  const refused = async (test: Pipeline) => {
    await test.source.admin`insert into public.old values (2, 'y')`;
    await test.target.admin`
      create function public.wait() returns trigger language plpgsql as $$ begin raise 'later' using errcode = '40P01'; end $$`;
    await test.target.admin`create trigger wait before insert on public.new for each row execute function public.wait()`;
  };

  it("is told after seven times while it is still being tried, with the error and what to do, until it lands", async () => {
    await using test = await two();
    await refused(test);
    const { execution } = await test.start();
    test.queue.length = 0;
    for (let tries = 0; tries < 7; tries++) await tryAll(test);
    expect(await told(test)).toEqual([]);
    await tick(test.context);
    expect(await told(test)).toEqual([
      {
        kind: "page_retried",
        severity: "warning",
        subject: "xmin",
        occurrences: 1,
        message:
          "Page 0 of things (xmin) has been tried 7 times in vain, the last time with TARGET_UNAVAILABLE, SQLSTATE 40P01. After 20 times its chain is stopped alone. It is tried again by itself. If it stays, check TARGET_DB_URL and the project's state.",
      },
    ]);
    await test.target.admin`drop trigger wait on public.new`;
    await tryAll(test);
    await test.drain();
    await tick(test.context);
    expect(await told(test)).toEqual([]);
    expect((await test.status(execution)).status).toBe("succeeded");
  });

  it("is one alert while whoever takes it is killed, until it lands", async () => {
    await using test = await two();
    await refused(test);
    await test.start();
    const [message] = test.queue.splice(0);
    if (!message) throw new Error("no page");
    // Six times in vain, and the seventh is killed: its lease has run out.
    await test.target.admin`update public.sync_chains set failures = 6 where id = ${message.chain}`;
    const take = () => claimPage(test.context.target, message, 60, addressesOf(test.context.config));
    const kill = () =>
      test.target.admin`update public.sync_chains set lease_until = now() - interval '1 second' where id = ${message.chain}`;
    expect((await take()).outcome).toBe("claimed");
    await tick(test.context);
    expect(await told(test)).toEqual([]);
    for (const occurrences of [1, 2]) {
      await kill();
      await tick(test.context);
      expect(await told(test)).toMatchObject([{ kind: "page_retried", occurrences }]);
      expect((await take()).outcome).toBe("claimed");
      await tick(test.context);
      expect(await told(test)).toMatchObject([{ kind: "page_retried", occurrences }]);
    }
    await test.target.admin`drop trigger wait on public.new`;
    await kill();
    await test.run(message);
    await tick(test.context);
    expect(await told(test)).toEqual([]);
  });

  it("is told when its job says so, and no more when its chain ends", async () => {
    await using test = await two();
    await refused(test);
    await test.target.admin`update public.sync_jobs set alarms = '{"retries": 2}'`;
    const [job] = await test.target.admin<{ id: string }[]>`select id from public.sync_jobs`;
    const { execution } = await test.start({ jobId: job?.id ?? "" });
    test.queue.length = 0;
    await tryAll(test);
    await tick(test.context);
    expect(await told(test)).toEqual([]);
    await tryAll(test);
    await tick(test.context);
    expect(await kinds(test)).toEqual(["page_retried: xmin"]);
    await test.target.admin`update public.sync_executions set status = 'cancelled' where id = ${execution}`;
    await tick(test.context);
    expect(await told(test)).toEqual([]);
  });
});

describe("an error that nobody has expected", () => {
  it("of a page is told at its first occurrence, and is over with a later run of the entity, not with the next try", async () => {
    await using test = await two();
    await test.source.admin`insert into public.old values (2, 'y')`;
    const { execution } = await test.start();
    for (const message of test.queue.splice(0)) await test.run(message, defective(test.context));
    expect(await told(test)).toEqual([
      {
        kind: "internal_error",
        severity: "critical",
        subject: "xmin",
        occurrences: 1,
        message:
          "An error that nobody has expected ended page 0 of things (xmin). It is tried again, ISTHMUS_PAGE_TRIES times at most; nothing is half done. See page.failed in the log of sync-page at that time.",
      },
    ]);
    await tryAll(test);
    await test.drain();
    expect((await test.status(execution)).status).toBe("succeeded");
    await test.sync({ entities: ["others"] });
    await test.sync({ legacyIds: { [ENTITY]: ["1"] } });
    expect(await kinds(test)).toEqual(["internal_error: xmin"]);
    await test.sync();
    expect(await told(test)).toEqual([]);
  });

  it("of a tick is told at its first occurrence, and is over when the part has worked for ten minutes", async () => {
    await using test = await two();
    // Nobody answers for QStash here; a clock that fails is met by no other part.
    const broken: Context = {
      ...test.context,
      clock: () => {
        throw new TypeError("a defect");
      },
    };
    await tick(broken);
    expect(await told(test)).toMatchObject([
      { kind: "internal_error", severity: "critical", subject: "tick jobs", occurrences: 1 },
      { kind: "internal_error", severity: "critical", subject: "tick work", occurrences: 1 },
    ]);
    await tick(test.context);
    expect(await told(test)).toHaveLength(2);
    await test.target.admin`update public.sync_alerts set last_seen_at = now() - interval '11 minutes'`;
    await tick(broken);
    expect(await told(test)).toMatchObject([{ occurrences: 2 }, { occurrences: 2 }]);
    await test.target.admin`update public.sync_alerts set last_seen_at = now() - interval '11 minutes'`;
    await tick(test.context);
    expect(await told(test)).toEqual([]);
  });

  it("of what a tick asks before all else is told, too", async () => {
    await using test = await two();
    await tick(test.context, null, Promise.reject(new TypeError("a defect")));
    expect(await told(test)).toMatchObject([
      { kind: "internal_error", severity: "critical", subject: "tick identity", occurrences: 1 },
    ]);
    await test.target.admin`update public.sync_alerts set last_seen_at = now() - interval '11 minutes'`;
    await tick(test.context);
    expect(await told(test)).toEqual([]);
  });

  it("that keeps a job from beginning is told at once, and the job is tried five times, not for ever", async () => {
    await using test = await two();
    const broken: Context = {
      ...test.context,
      clock: Date.now,
      source: new Proxy(test.context.source, {
        get: () => {
          throw new TypeError("a defect");
        },
      }),
    };
    const again = async () => {
      await test.target.admin`update public.sync_jobs set next_execution_at = now() - interval '1 hour'`;
      await startDueJobs(broken);
    };
    await again();
    expect(await told(test)).toMatchObject([{ kind: "job_waits", severity: "critical", subject: "daily" }]);
    for (let tries = 2; tries <= 4; tries++) await again();
    expect(await kinds(test)).toEqual(["job_waits: daily"]);
    await again();
    expect(await kinds(test)).toEqual(["job_failed: daily"]);
    const [job] = await test.target.admin<{ status: string; later: boolean }[]>`
      select status, next_execution_at > now() + interval '31 minutes' or next_execution_at::time = '02:00' as later from public.sync_jobs`;
    expect(job).toEqual({ status: "failed", later: true });
  });
});

it("a comparison that still differs is told for its entity, with the records, until a later one finds no difference", async () => {
  await using test = await createPipeline();
  for (const id of [1, 2, 3]) await test.seed.doctor(id, { credit: "10" });
  const credit = async (value: string) => {
    await test.target.admin.begin(async (tx) => {
      await tx`set local session_replication_role = replica`;
      await tx`update public.doctors set credit = ${value} where legacy_user_id = 3`;
      await tx`
        update public.sync_row_states set "left" = jsonb_set("left", '{credit}', to_jsonb(${value}::text::numeric))
         where legacy_id = 3 and entity_id = (select id from public.sync_entities where entity_type = 'doctors')`;
    });
  };
  await test.sync({ entities: ["profiles", "doctors"] });
  await credit("11");
  // A record that has changed, so that both sides are compared.
  await test.source.admin`update public.dispatch_doctorsetting set credit = 20 where user_id = 1`;
  const { execution } = await test.start({ entities: ["profiles", "doctors"] });
  await test.drain();
  expect((await test.status(execution)).status).toBe("failed");
  expect(await told(test)).toMatchObject([
    {
      kind: "validation_failed",
      severity: "critical",
      message: expect.stringMatching(/^Both sides of doctors still differ .*: 1 records\./) as string,
    },
  ]);
  await test.sync({ entities: ["profiles"] });
  expect(await told(test)).toHaveLength(1);
  await credit("10");
  await test.source.admin`update public.dispatch_doctorsetting set credit = 30 where user_id = 1`;
  await test.sync({ entities: ["profiles", "doctors"] });
  expect(await told(test)).toEqual([]);
});
