import { expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { operations } from "../clinic/entities/operations.ts";
import type { RequestedCapture } from "../shared/plan/choose-capture.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import { wholeSet } from "./support/number-set.ts";

/** `npm run test:captures`: two million. */
const ROWS = wholeSet("ISTHMUS_CAPTURE_ROWS", 5_000);
const CHANGES = [0, 10, ROWS / 100];

const stamped: Entity = {
  ...operations,
  history: "hashes",
  onDelete: "hard",
  source: { ...operations.source, modified: "made_at" },
};

interface Cost {
  readonly changes: number;
  readonly seconds: number;
  readonly pages: number;
  readonly read: number;
  /** What the source sent, as JSON. */
  readonly kilobytes: number;
}

/** Counts what a connection answers. */
function counting<Sql extends object>(sql: Sql, count: (bytes: number) => void): Sql {
  return new Proxy(sql, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown;
      if (name !== "unsafe" || typeof value !== "function") return value;
      return async (...args: unknown[]) => {
        const rows = (await Reflect.apply(value, target, args)) as unknown;
        count(JSON.stringify(rows).length);
        return rows;
      };
    },
  });
}

async function run(test: InProcess, capture: RequestedCapture, changes: number): Promise<Cost> {
  const { source } = test.context;
  let bytes = 0;
  Object.assign(test.context, { source: counting(source, (sent) => (bytes += sent)) });
  const began = performance.now();
  const begun = await test.start({ capture });
  await test.drain();
  const seconds = (performance.now() - began) / 1_000;
  Object.assign(test.context, { source });
  const [ended] = await test.target.admin<{ status: string; read: number; pages: number }[]>`
    select status, (select coalesce(sum(read), 0)::integer from public.sync_page_log l where l.execution_id = x.id) as read,
           (select count(*)::integer from public.sync_page_log l where l.execution_id = x.id) as pages
      from public.sync_executions x where id = ${begun.execution}`;
  expect(ended?.status).toBe("succeeded");
  const { read, pages } = ended ?? { read: -1, pages: -1 };
  return { changes, seconds: Number(seconds.toFixed(2)), pages, read, kilobytes: Math.ceil(bytes / 1_024) };
}

it(`finds nothing, ten and one in a hundred changes among ${ROWS} records, by each capture`, { timeout: 3_600_000 }, async () => {
  await using test = await createInProcess({ entities: [stamped], env: { ISTHMUS_PAGE_SIZE: "5000" } });
  await test.target.admin.unsafe(workerGrants([stamped]));
  await test.source.admin`
    insert into public.dispatch_operation (id, type, price, made_at, card_brand)
    select id, 1, id, timestamptz '2020-01-01' + id * interval '1 second', 'VISA' from generate_series(1, ${ROWS}::integer) id`;
  await test.source.admin.unsafe("create index on public.dispatch_operation (made_at, id)");
  await test.sync();
  await test.target.admin.unsafe("analyze");

  let version = 0;
  const change = async (changes: number) => {
    version++;
    const every = changes === 0 ? ROWS + 1 : Math.floor(ROWS / changes);
    await test.source.admin`
      update public.dispatch_operation set card_brand = ${`version ${version}`}, made_at = clock_timestamp() where id % ${every} = 0 and id <= ${every * changes}`;
  };
  const costs: Record<string, Cost[]> = {};
  for (const capture of ["xmin", "modified", "digest"] as const) {
    for (const changes of CHANGES) {
      await change(changes);
      if (capture === "digest") {
        // Hidden from every transaction id: the comparison finds them alone.
        const [now] = await test.source.admin<{ at: string }[]>`select pg_snapshot_xmin(pg_current_snapshot())::text as at`;
        await test.target.admin`update public.sync_checkpoints set horizon = ${now?.at ?? "0"}::xid8`;
      }
      const cost = await run(test, capture, changes);
      expect(cost.read).toBe(changes);
      (costs[capture] ??= []).push(cost);
    }
    // A run by stamps moves no horizon.
    if (capture === "modified") await test.sync({ capture: "xmin" });
  }
  if (process.env["ISTHMUS_CAPTURE_ROWS"] !== undefined) {
    for (const [capture, list] of Object.entries(costs)) {
      process.stdout.write(`${capture}\n`);
      for (const cost of list) process.stdout.write(`  ${JSON.stringify(cost)}\n`);
    }
  }
});
