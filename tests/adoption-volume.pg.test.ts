import { describe, expect, it } from "vitest";
import { previewAdoptions } from "../shared/plan/adopt.ts";
import { adopt } from "./support/adoption.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import { wholeSet } from "./support/number-set.ts";

/** Thousands. 2,000,000 with `npm run test:adoption`; in every run a fraction of it. */
const ROWS = wholeSet("ISTHMUS_ADOPTION_ROWS", 20_000);
const PATIENT = "00000000-0000-4000-8000-000000000001";

/** Orders under random ids, every hundredth imported twice, every thousandth without its legacy id, in no order of theirs. */
async function fill(test: InProcess, indexed: boolean): Promise<void> {
  const sql = test.target.admin;
  await sql.unsafe(`
    alter table public.orders drop constraint orders_legacy_instruction_id_key, alter column legacy_instruction_id drop not null;
    insert into public.profiles (id, legacy_user_id, profile_type, username, is_active, archived, suspended, joined_at)
    values ('${PATIENT}', 1, 'patient', 'one', true, false, false, now());
    insert into public.patients (id, legacy_patient_id, profile_id, patient_number, archived, suspended)
    values ('${PATIENT}', 1, '${PATIENT}', 'PAT-000001', false, false);
    set session_replication_role = replica;
    insert into public.orders (legacy_instruction_id, order_number, patient_id, status, deleted, source_updated_at, notes)
    select case when n % 1000 = 999 then null when n % 100 = 50 then n - 1 else n end, n, '${PATIENT}', 'submitted', false, now(), repeat('x', 100)
      from generate_series(1, ${ROWS}) s (n) order by ${indexed ? "s.n" : "hashint4(s.n)"};
    reset session_replication_role;
    ${indexed ? "create index on public.orders (legacy_instruction_id);" : ""}
    analyze public.orders`);
}

describe(`${ROWS.toLocaleString("en")} rows of an earlier migration`, () => {
  it.each([
    { indexed: true, name: "with an index on the legacy id" },
    { indexed: false, name: "without an index on the legacy id, which lie in no order" },
  ])("are adopted $name: page by page, each far within its lease", { timeout: 3_600_000 }, async ({ indexed, name }) => {
    await using test = await createInProcess();
    await fill(test, indexed);
    const looking = performance.now();
    const { preview } = await previewAdoptions(test.context, ["orders"]);
    const looked = (performance.now() - looking) / 1_000;
    const starting = performance.now();
    const { execution } = await adopt(test, "orders");
    const seconds = (performance.now() - starting) / 1_000;

    const keyless = ROWS / 1_000;
    const twice = ROWS / 100;
    const once = ROWS - keyless - 2 * twice;
    expect(preview).toMatchObject([
      { adoptable: once, ambiguous: twice, ambiguousRows: 2 * twice, withoutLegacyId: keyless, indexed },
    ]);
    expect(
      (
        await test.target
          .admin`select body from public.sync_reports where execution_id = ${execution} and kind = 'adoption:orders'`
      )[0],
    ).toEqual({
      body: {
        table: "orders",
        adopted: once,
        ambiguous: twice,
        ambiguous_rows: 2 * twice,
        surplus_rows: 0,
        without_legacy_id: keyless,
      },
    });
    const [wrong] = await test.target.admin<{ n: number }[]>`
      select count(*)::integer as n from public.uuid_mappings_enhanced m
        join public.orders o on o.id = m.entity_uuid where o.legacy_instruction_id is distinct from m.legacy_id`;
    expect(wrong?.n).toBe(0);
    const [pages] = await test.target.admin<{ n: number; slowest: number }[]>`
      select count(*)::integer as n, max(wall_ms)::float as slowest from public.sync_page_log where execution_id = ${execution}`;
    expect(pages?.slowest).toBeLessThan(30_000);
    process.stdout.write(
      `  ${ROWS.toLocaleString("en")} rows ${name}: dry run ${looked.toFixed(1)} s, adopted in ${seconds.toFixed(1)} s, ` +
        `${pages?.n ?? 0} pages, the slowest ${((pages?.slowest ?? 0) / 1_000).toFixed(2)} s\n`,
    );
  });
});
