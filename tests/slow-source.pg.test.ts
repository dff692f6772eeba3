import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { offices } from "../clinic/entities/offices.ts";
import type { SelectionRequest } from "../shared/plan/plan-selection.ts";
import { readerUrl } from "./support/databases.ts";
import { limited, restrict, seedOffices, toItsEnd } from "./support/limits.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { testServer } from "./support/servers.ts";
import { createWire, type Wire } from "./support/wire.ts";

const ROWS = 24;
/** Each row that the source looks at takes a while, so that no statement over all of them is in time. */
const PER_ROW_SECONDS = 0.02;
const LIMIT = "300ms";

const slowSql = (...tables: string[]) => `
  create or replace function public.slow_of_test() returns boolean language plpgsql volatile as $$
  begin perform pg_sleep(${PER_ROW_SECONDS}); return true; end $$;
  ${tables
    .map(
      (table) => `alter table public.${table} enable row level security;
        create policy slow_of_test on public.${table} for select to isthmus_reader using (public.slow_of_test());`,
    )
    .join("\n")}`;
const quickSql = (...tables: string[]) =>
  tables
    .map((table) => `drop policy slow_of_test on public.${table}; alter table public.${table} disable row level security;`)
    .join("\n");

/** A policy makes the rows slow, and the sync reads no rows behind one. So the server hears that it would. */
const behindPolicies = async () => {
  const { port } = await testServer();
  return createWire(port, (sent) =>
    Buffer.from(sent.toString("latin1").replaceAll("row_security = 'off'", "row_security = 'on' "), "latin1"),
  );
};

describe("a source that has no time for a statement over all rows", () => {
  let test: Pipeline;
  let wire: Wire;
  const TABLES = ["dispatch_patient", "auth_user"];
  beforeAll(async () => {
    wire = await behindPolicies();
    test = await createPipeline({
      env: { ISTHMUS_POOL_SIZE: "1", ISTHMUS_PAGE_SIZE: "40", ISTHMUS_CHAINS_PER_ENTITY: "1" },
      sourceUrl: (source) => readerUrl(source).replace(/:\d+\//, `:${wire.port}/`),
    });
    await test.seed.office(1);
    for (let id = 1; id <= ROWS; id++) await test.seed.patient(id, { userId: 100 + id, officeId: 1 });
    // Five rows to a block of the file.
    await test.source.admin.unsafe(`
      alter table public.dispatch_patient add column width_of_test text;
      alter table public.dispatch_patient alter column width_of_test set storage plain;
      update public.dispatch_patient set width_of_test = repeat('x', 1500);`);
    await test.source.admin`vacuum full public.dispatch_patient`;
    await test.sync({ entities: ["profiles", "offices", "patients"] });
  });
  afterAll(async () => {
    await test[Symbol.asyncDispose]();
    await wire[Symbol.asyncDispose]();
  });

  /** Begun while the source is quick, run while it is slow. */
  async function run(request: Partial<SelectionRequest>) {
    const { execution } = await test.start(request);
    await test.source.admin.unsafe(slowSql(...TABLES));
    await restrict(test.source, "isthmus_reader", { statement_timeout: LIMIT });
    await test.source
      .admin`select pg_terminate_backend(pid, 1000) from pg_stat_activity where usename = 'isthmus_reader' and datname = current_database()`;
    try {
      const ended = await toItsEnd(test, execution);
      expect(ended.outcomes.filter(({ outcome }) => outcome === "failed")).toEqual([]);
      expect(ended.status).toBe("succeeded");
      return ended;
    } finally {
      await test.source.admin.unsafe(quickSql(...TABLES));
      await test.source.admin.unsafe(`alter role isthmus_reader in database "${test.source.name}" reset statement_timeout`);
      await test.source
        .admin`select pg_terminate_backend(pid, 1000) from pg_stat_activity where usename = 'isthmus_reader' and datname = current_database()`;
    }
  }
  const suffix = (text: string, where = "true") =>
    test.source.admin.unsafe(
      `update public.dispatch_patient set suffix = '${text}', updated_at = clock_timestamp() where ${where}`,
    );
  const landed = async (text: string) => (await test.target.admin`select from public.patients where suffix = ${text}`).length;
  const patients = { entities: ["patients"] };

  it("full", async () => {
    await suffix("full");
    await run({ ...patients, capture: "full" });
    expect(await landed("full")).toBe(ROWS);
  });

  it.each([
    ["all", "true", ROWS],
    ["the last", `id = ${ROWS}`, 1],
  ])("written rows: %s", async (name, where, count) => {
    await suffix(name, where);
    await run({ ...patients, capture: "auto" });
    expect(await landed(name)).toBe(count);
  });

  it("modified rows", async () => {
    await suffix("modified", "id > 2");
    await run({ ...patients, capture: "modified" });
    expect(await landed("modified")).toBe(ROWS - 2);
  });

  it("a digest", async () => {
    await test.source.admin`set session_replication_role = replica`;
    await suffix("digest");
    await run({ ...patients, capture: "digest" });
    expect(await landed("digest")).toBe(ROWS);
  });

  it("a selection by a column", async () => {
    await suffix("selected", "id > 20");
    await run({ filters: { patients: { office_id: ["1"] } } });
    expect(await landed("selected")).toBe(ROWS - 20);
  });

  it("the records that refer to a selected one", async () => {
    await suffix("dependant", "id > 3");
    expect(await run({ legacyIds: { offices: ["1"] }, dependants: true })).toMatchObject({ queued: [] });
    expect(await landed("dependant")).toBe(ROWS - 3);
  });
});

describe("a condition for which the source has no time", () => {
  const slowly = (condition: string) => `(select ${condition} from pg_sleep(${PER_ROW_SECONDS} + 0 * o.id))`;
  const predicate = { name: "of_test", version: 1, reason: "of this test", onLeave: "keep" } as const;
  it.each<[string, Entity["source"], number, number]>([
    ["a membership that few rows have", { ...offices.source, where: slowly("o.id > 20") }, ROWS - 20, 0],
    ["a predicate that lets nothing in", { ...offices.source, predicate: { ...predicate, where: slowly("false") } }, 0, ROWS],
    [
      "a predicate that lets some in",
      { ...offices.source, predicate: { ...predicate, where: slowly("o.id % 5 = 0") } },
      4,
      ROWS - 4,
    ],
  ])("%s: the pages look at fewer rows, and come through", async (_, source, landed, waived) => {
    await using test = await limited({ entity: { ...offices, source } });
    await seedOffices(test, ROWS);
    const { execution } = await test.start({ entities: ["offices"], capture: "full" });
    await restrict(test.source, "isthmus_reader", { statement_timeout: LIMIT });
    await test.source
      .admin`select pg_terminate_backend(pid, 1000) from pg_stat_activity where usename = 'isthmus_reader' and datname = current_database()`;
    const ended = await toItsEnd(test, execution);
    expect(ended.status).toBe("succeeded");
    expect(ended.landed).toHaveLength(landed);
    const [sums] = await test.target
      .admin`select sum(waived)::integer as waived from public.sync_page_log where execution_id = ${execution}`;
    expect(sums).toEqual({ waived });
  });

  it("or that it cannot compute of one record: that record is queued, the rest lands", async () => {
    await using test = await limited({ entity: { ...offices, source: { ...offices.source, where: "o.phone::numeric > 1" } } });
    await seedOffices(test, ROWS);
    await test.source.admin`update public.dispatch_office set phone = 'x' where id in (3, 17)`;
    const { execution } = await test.start({ entities: ["offices"], capture: "full" });
    const ended = await toItsEnd(test, execution);
    expect(ended).toMatchObject({ status: "succeeded", queued: [[3, "source_22P02"], [17, "source_22P02"]] }); // prettier-ignore
    expect(ended.landed).toHaveLength(ROWS - 2);
  });
});
