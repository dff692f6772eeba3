import { describe, expect, it } from "vitest";
import type { Sql } from "../shared/db/connect.ts";
import type { Context } from "../shared/context.ts";
import {
  expectAccounted,
  Killed,
  limited,
  officesWith,
  officeTrigger,
  seedOffices,
  toItsEnd,
  type Ended,
} from "./support/limits.ts";
import type { Pipeline } from "./support/pipeline.ts";

const OFFICES = 24;
const others = (...without: number[]) => Array.from({ length: OFFICES }, (_, n) => n + 1).filter((id) => !without.includes(id));

async function run(test: Pipeline, { trigger, context }: { trigger?: string; context?: Context } = {}): Promise<Ended> {
  const { execution } = await test.start({ entities: ["offices"], capture: "full" });
  // Behind the check of the target, which would ask a person about it first.
  if (trigger !== undefined) await officeTrigger(test, trigger);
  const ended = await toItsEnd(test, execution, context);
  await expectAccounted(test, execution, ended, OFFICES);
  return ended;
}

const slowFor = (seconds: number, condition: string) =>
  `case when ${condition} then (select 'x' from pg_sleep(${seconds} + 0 * o.id)) else o.address end`;

describe("a limit that ends a page", () => {
  it.each([
    ["statement_timeout", "400ms"],
    ["transaction_timeout", "400ms"],
  ])("%s of the target: smaller pages land everything", async (name, value) => {
    await using test = await limited({ worker: { [name]: value } });
    await seedOffices(test, OFFICES);
    const ended = await run(test, { trigger: "perform pg_sleep(0.04)" });
    expect(ended).toMatchObject({ status: "succeeded", landed: others(), queued: [] });
    const smaller = ended.outcomes.filter(({ outcome }) => outcome === "smaller");
    expect(smaller.length).toBeGreaterThan(0);
    expect(ended.outcomes.filter(({ outcome }) => outcome === "failed")).toEqual([]);
  });

  it.each([
    ["statement_timeout", "500ms", "perform pg_sleep(case when new.legacy_office_id = 7 then 30 else 0 end)", "time_limit"],
    ["transaction_timeout", "500ms", "perform pg_sleep(case when new.legacy_office_id = 7 then 30 else 0 end)", "time_limit"],
    [
      "memory",
      "",
      "if new.legacy_office_id = 7 then raise exception 'no memory' using errcode = '53200'; end if",
      "record_too_large",
    ],
    [
      "a whole statement's limit",
      "",
      "if new.legacy_office_id = 7 then raise exception 'too complex' using errcode = '54023'; end if",
      "record_too_large",
    ],
  ])("%s of the target that one record goes beyond alone: it is queued, the rest lands", async (name, value, body, rule) => {
    await using test = await limited(value === "" ? {} : { worker: { [name]: value } });
    await seedOffices(test, OFFICES);
    expect(await run(test, { trigger: body })).toMatchObject({ status: "succeeded", landed: others(7), queued: [[7, rule]] });
    const [conflict] = await test.target.admin<{ type: string; remedy: string; data: Record<string, unknown> }[]>`
      select conflict_type as type, remedy, conflict_data as data from public.sync_conflicts where state = 'open'`;
    expect(conflict?.type).toBe("schema_mismatch");
    expect(Number(conflict?.data["bytes"])).toBeGreaterThan(10);
  });

  it("lock_timeout: the record whose row somebody holds is queued, the rest lands", async () => {
    await using test = await limited({ worker: { lock_timeout: "150ms" } });
    await seedOffices(test, OFFICES);
    await test.sync({ entities: ["offices"] });
    await test.source.admin`update public.dispatch_office set city = 'moved'`;
    const session = await test.target.admin.reserve();
    await session.unsafe("begin; select from public.offices where legacy_office_id = 7 for update");
    const ended = await run(test);
    await session.unsafe("rollback");
    session.release();
    expect(ended).toMatchObject({ status: "succeeded", queued: [[7, "time_limit"]] });
    expect(await test.target.admin`select from public.offices where city = 'moved'`).toHaveLength(OFFICES - 1);
    // It is due again by itself.
    await test.target
      .admin`update public.sync_conflicts set next_attempt_at = now() where state = 'open' and next_attempt_at is not null`;
    await test.target.admin`select sync.retry_due(id) from public.sync_sources`;
    await test.sync({ entities: ["offices"] });
    expect(await test.target.admin`select from public.offices where city = 'moved'`).toHaveLength(OFFICES);
    expect(await test.live("offices")).toEqual([]);
  });

  it("idle_in_transaction_session_timeout of the target is none while the source works: nothing is open there", async () => {
    await using test = await limited({
      worker: { idle_in_transaction_session_timeout: "200ms" },
      entity: officesWith(slowFor(1, "o.id = 7")),
    });
    await seedOffices(test, OFFICES);
    const ended = await run(test);
    expect(ended).toMatchObject({ status: "succeeded", landed: others(), queued: [] });
    expect(ended.outcomes.filter(({ outcome }) => outcome !== "committed" && outcome !== "validated")).toEqual([]);
  });

  it("statement_timeout of the source: smaller pages land everything", async () => {
    await using test = await limited({ reader: { statement_timeout: "400ms" }, entity: officesWith(slowFor(0.04, "true")) });
    await seedOffices(test, OFFICES);
    const ended = await run(test);
    expect(ended).toMatchObject({ status: "succeeded", landed: others(), queued: [] });
    expect(ended.outcomes.some(({ outcome }) => outcome === "smaller")).toBe(true);
  });

  it("statement_timeout of the source that one record goes beyond alone: it is queued, the rest lands", async () => {
    await using test = await limited({ reader: { statement_timeout: "400ms" }, entity: officesWith(slowFor(30, "o.id = 7")) });
    await seedOffices(test, OFFICES);
    expect(await run(test)).toMatchObject({ status: "succeeded", landed: others(7), queued: [[7, "time_limit"]] });
  });

  it("a worker that one record kills whenever it is read: the record is queued without a third read, the rest lands", async () => {
    await using test = await limited({});
    await seedOffices(test, OFFICES);
    let readAlone = 0;
    let dead = false;
    // A killed worker reaches neither database any more, so that its page is never given back.
    const mortal = (sql: Sql): Sql =>
      Object.assign(Object.create(sql) as Sql, {
        unsafe: (...args: Parameters<Sql["unsafe"]>) => {
          const [text, parameters] = args;
          const ids = typeof parameters?.[0] === "string" ? parameters[0] : "";
          if (text.includes("claim_page")) dead = false;
          else if (text.includes("r.bytes") && /[{,]7[,}]/.test(ids)) {
            dead = true;
            if (ids === "{7}") readAlone += 1;
          }
          if (dead) return Promise.reject(new Killed());
          return sql.unsafe(...args);
        },
      });
    const context: Context = { ...test.context, source: mortal(test.context.source), target: mortal(test.context.target) };
    const ended = await run(test, { context });
    expect(ended).toMatchObject({ status: "succeeded", landed: others(7), queued: [[7, "record_too_large"]] });
    expect(readAlone).toBe(2);
  });

  it("rejects that take the database over half the lease: the next page is half as large", async () => {
    const env = { ISTHMUS_PAGE_SIZE: "4", ISTHMUS_PAGE_SIZE_MAX: "12", ISTHMUS_LEASE_SECONDS: "4" };
    await using test = await limited({ env });
    await seedOffices(test, 6);
    const { execution } = await test.start({ entities: ["offices"], capture: "full" });
    // A refusal that nobody can tell beforehand.
    await officeTrigger(test, "perform pg_sleep(0.6); raise exception 'refused' using errcode = 'P0001'");
    await toItsEnd(test, execution);
    const pages = await test.target.admin<
      { read: number }[]
    >`select read::integer as read from public.sync_page_log order by page`;
    expect(pages.map(({ read }) => read)).toEqual([4, 2, 0]);
  });

  it.each([
    ["grows after a page that took a tenth of the lease", 6_000, 16],
    ["stays after one that took a third, whatever the function saw of that", 20_000, 8],
    ["is half as large after one that took more than half", 31_000, 4],
  ])("the next page %s", async (_, wallMs, size) => {
    await using test = await limited({ env: { ISTHMUS_PAGE_SIZE: "8" } });
    await test.start({ entities: ["offices"], capture: "full" });
    // As the sync does: nobody else may move a chain.
    await test.target.admin.begin(async (tx) => {
      await tx`set local role isthmus_worker`;
      await tx`
        insert into public.sync_page_log (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, waiting, in_conflict, wall_ms)
        select execution_id, id, entity_id, page, 0, 0, 0, 0, 0, 0, ${wallMs} from public.sync_chains where entity_id is not null`;
      await tx`
        select sync.close_page(c, e, jsonb_build_object('done', false, 'cursor', 1, 'lease_seconds', 60, 'next_page_size', 16), ${wallMs})
          from public.sync_chains c join public.sync_entities e on e.id = c.entity_id`;
    });
    expect(await test.target.admin`select page_size from public.sync_chains where "cursor" = 1`).toEqual([{ page_size: size }]);
  });
});
