import type { Sql } from "postgres";
import { expect } from "vitest";

/** Which rows of the source are records of an entity, in SQL of its own. */
const RECORDS: Readonly<Record<string, string>> = {
  offices: "public.dispatch_office",
  profiles: "public.auth_user",
  doctors: `(select user_id from public.dispatch_doctorsetting union select user_id from public.dispatch_usersetting
    union select user_id from public.dispatch_office_doctors union select doctor_id from public.dispatch_patient where doctor_id is not null
    union select doctor_id from public.dispatch_payment where doctor_id is not null
    union select doctor_id from public.dispatch_offer where doctor_id is not null
    union select doctor_id from public.dispatch_note where doctor_id is not null
    union select ug.user_id from public.auth_user_groups ug join public.auth_group g on g.id = ug.group_id where g.name = 'Doctor') d`,
  patients: "public.dispatch_patient",
  orders: "public.dispatch_instruction",
  payments: "public.dispatch_payment",
  operations: "public.dispatch_operation",
  doctor_offices: "public.dispatch_office_doctors",
  cases: "public.dispatch_patient",
  teams: "public.auth_group",
  roles: "public.dispatch_role",
  role_permissions: "public.dispatch_role_permissions",
  categories: "public.dispatch_category",
  courses: "public.dispatch_course",
  products: "public.dispatch_product",
  wares: "public.dispatch_ware",
  storages: "public.dispatch_storage",
  offers: "public.dispatch_offer",
  discounts: "public.dispatch_discount",
  templates: "public.dispatch_template",
  template_edit_roles: "public.dispatch_template_edit_roles",
  template_view_roles: "public.dispatch_template_view_roles",
  template_view_groups: "public.dispatch_template_view_groups",
  template_products: "public.dispatch_template_products",
  template_predecessors: "public.dispatch_template_predecessors",
  purchases: "public.dispatch_purchase",
};

const MONEY: Readonly<Record<string, string>> = {
  "orders.amount": "select sum(price) from public.dispatch_instruction",
  "payments.amount": "select sum(total_price) from public.dispatch_payment",
  "payments.paid_amount": "select sum(paid_price) from public.dispatch_payment",
  "operations.amount": "select sum(price) from public.dispatch_operation",
  "doctors.credit": "select sum(credit) from public.dispatch_doctorsetting",
  "offers.price_both": "select sum(price_both) from public.dispatch_offer",
  "offers.price_upper": "select sum(price_upper) from public.dispatch_offer",
  "offers.price_lower": "select sum(price_lower) from public.dispatch_offer",
  "purchases.unit_price": "select sum(price) from public.dispatch_purchase",
};

/** The cells of a printed line that begins with these words. */
function cells(printed: string, ...words: readonly string[]): string[] {
  const line = printed.split("\n").find((one) => words.every((word, index) => one.trim().split(/\s{2,}/)[index] === word));
  return line === undefined ? [] : line.trim().split(/\s{2,}/);
}

/** The counts of an entity in the table of a run: none, when it had nothing to do. */
function countsOf(printed: string, entity: string): number[] {
  const line = ["full", "xmin", "keys", "joins"]
    .map((capture) => cells(printed, entity, capture))
    .find((found) => found.length > 0);
  return numbers(line?.slice(2) ?? []);
}

function numbers(texts: readonly string[]): number[] {
  return texts.map((text) => Number(text.replaceAll(",", "")));
}

/** Each entity's line, the cost and the cache of a run, recomputed from the page log. */
export async function expectCounts(printed: string, target: Sql): Promise<void> {
  const execution = /Execution ([0-9a-f-]{36}) succeeded/.exec(printed)?.[1] ?? "";
  const logged = await target<{ entity: string; counts: string[] }[]>`
    select e.entity_type as entity,
           array[sum(read), sum(inserted), sum(updated), sum(unchanged), sum(deleted), sum(waiting), sum(in_conflict), sum(waived)]::text[] as counts
      from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
     where execution_id = ${execution} group by 1`;
  expect(logged.length).toBeGreaterThan(0);
  for (const { entity, counts } of logged) {
    const [read = 0, ...outcomes] = countsOf(printed, entity);
    expect([read, ...outcomes], entity).toEqual(numbers(counts));
    expect(
      outcomes.reduce((sum, count) => sum + count, 0),
      entity,
    ).toBe(read);
  }
  const [run] = await target<{ seconds: string; records: number; pages: number; hits: number; lookups: number }[]>`
    select round(extract(epoch from x.completed_at - x.started_at), 1)::text as seconds, sum(read)::integer as records,
           count(*)::integer as pages, sum(cache_hits)::integer as hits, sum(cache_lookups)::integer as lookups
      from public.sync_executions x join public.sync_page_log l on l.execution_id = x.id
     where x.id = ${execution} group by x.id`;
  const [, seconds, records, pages] = /([\d.]+) s, ([\d,]+) records in (\d+) pages/.exec(printed) ?? [];
  expect(Math.abs(Number(seconds) - Number(run?.seconds))).toBeLessThan(0.11);
  expect(numbers([records ?? "", pages ?? ""])).toEqual([run?.records, run?.pages]);
  const [, rate, lookups] = /mapping cache: ([\d.]+) % of ([\d,]+) look-ups hit/.exec(printed) ?? [];
  expect(numbers([lookups ?? ""])).toEqual([run?.lookups]);
  expect(Number(rate)).toBeCloseTo((100 * (run?.hits ?? 0)) / (run?.lookups ?? 1), 0);
  const [, cpu, peak] = /CPU ([\d.]+) ms per 1,000 records, peak heap (\d+) MB/.exec(printed) ?? [];
  expect(Number(cpu)).toBeGreaterThan(0);
  expect(Number(peak)).toBeGreaterThan(10);
}

/** Rows of the source = rows of the target + records in the queue; rows of the target = what both runs inserted. */
export async function expectRecords(runs: readonly string[], target: Sql, source: Sql): Promise<void> {
  for (const [entity, records] of Object.entries(RECORDS)) {
    const inserted = runs.reduce((sum, printed) => sum + (countsOf(printed, entity)[1] ?? 0), 0);
    const [here] = await target.unsafe<{ landed: number; queued: number }[]>(
      // A row that somebody has deleted had landed.
      `select (select count(*) from public.${entity})::integer
              + (select count(*) from public.sync_conflicts where entity_type = $1 and state = 'open' and rule = 'target_deleted')::integer as landed,
              (select count(*) from public.sync_conflicts c where entity_type = $1 and state in ('waiting', 'open') and not exists (
                select from public.uuid_mappings_enhanced m where m.entity_type = $1 and m.legacy_id = c.source_record_id))::integer as queued`,
      [entity],
    );
    expect(here?.landed, entity).toBe(inserted);
    const [there] = await source.unsafe<{ n: number }[]>(`select count(*)::integer as n from ${records}`);
    expect((here?.landed ?? 0) + (here?.queued ?? 0), entity).toBe(there?.n);
  }
}

/** The printed queue, line by line, of entities that a run read last. */
export async function expectQueue(printed: string, target: Sql, readHere: (entity: string) => boolean): Promise<void> {
  const queue = await target<{ entity: string; state: string; rule: string; n: number }[]>`
    select entity_type as entity, state::text, rule, count(*)::integer as n from public.sync_conflicts
     where state in ('waiting', 'open') group by 1, 2, 3, conflict_type`;
  expect(queue.length).toBeGreaterThan(3);
  for (const { entity, state, rule, n } of queue.filter((row) => readHere(row.entity))) {
    const lines = printed.split("\n").map((line) => line.trim().split(/\s{2,}/));
    const found = lines.filter((line) => line[0] === entity && line[1] === state && line[3] === rule);
    expect(
      found.map((line) => numbers(line.slice(4))),
      `${entity} ${rule}`,
    ).toEqual([[n]]);
  }
}

/** Each money line: the sums of both sides, and no difference. */
export async function expectMoney(printed: string, target: Sql, source: Sql): Promise<void> {
  for (const [column, statement] of Object.entries(MONEY)) {
    const [table = "", name = ""] = column.split(".");
    const [there] = await source.unsafe<{ sum: string }[]>(`select (${statement})::text as sum`);
    const [here] = await target.unsafe<{ sum: string }[]>(`select sum(${name})::text as sum from public.${table}`);
    const [, fromSource, held, onTarget, difference] = cells(printed, column);
    expect([fromSource, onTarget, difference], column).toEqual([there?.sum, here?.sum, "0"]);
    const cents = (text = "") => BigInt(text.replace(".", ""));
    expect(cents(fromSource) - cents(held), column).toBe(cents(onTarget));
  }
}
