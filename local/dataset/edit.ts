import postgres from "postgres";

export type EditSummary = Readonly<Record<string, { readonly inserted: number; readonly updated: number }>>;

/**
 * A morning's work in the old application: about `count` scattered changes, none of which touches a modification
 * time, as Django's bulk updates do. Deterministic for a seed and the data it meets.
 */
export async function applyEdits(options: { url: string; seed?: number; count?: number }): Promise<EditSummary> {
  const { seed = 1, count = 300 } = options;
  const sql = postgres(options.url, { max: 1, onnotice: () => undefined });
  const summary: Record<string, { inserted: number; updated: number }> = {};
  const note = (table: string, kind: "inserted" | "updated", rows: number) => {
    const entry = (summary[table] ??= { inserted: 0, updated: 0 });
    entry[kind] += rows;
  };
  /** A share of the rows of a table, scattered by a hash of their ids. */
  const some = (table: string, share: number) =>
    `(select id from public.${table} order by md5(id::text || '/${Math.trunc(seed)}/${table}'), id limit ${Math.max(1, Math.round(count * share))})`;
  const run = async (table: string, kind: "inserted" | "updated", statement: string) => {
    const result = await sql.unsafe(statement);
    note(table, kind, result.count);
  };
  try {
    await run(
      "dispatch_payment",
      "updated",
      `update dispatch_payment set paid = not paid, paid_price = case when paid then 0 else total_price end where id in ${some("dispatch_payment", 0.3)}`,
    );
    await run(
      "dispatch_instruction",
      "updated",
      `update dispatch_instruction set status = case status when 0 then 1 when 1 then 2 else 4 end, price = coalesce(price, 0) + 0.01 where id in ${some("dispatch_instruction", 0.25)} and price < 99999999`,
    );
    await run("auth_user", "updated", `update auth_user set last_name = 'Renamed' where id in ${some("auth_user", 0.1)}`);
    // A patient moves to another doctor and office: all of that patient's orders move.
    await run(
      "dispatch_patient",
      "updated",
      `update dispatch_patient p set doctor_id = (select min(user_id) from dispatch_doctorsetting), office_id = (select min(id) from dispatch_office) where id in ${some("dispatch_patient", 0.05)}`,
    );
    await run(
      "dispatch_office",
      "updated",
      `update dispatch_office set phone = '+1 555 0100', tax_rate = 9.5000 where id in ${some("dispatch_office", 0.03)}`,
    );
    await sql.begin(async (tx) => {
      const [next] = await tx<{ u: number; p: number; i: number; m: number; o: number }[]>`
        select (select max(id) + 1 from auth_user) as u, (select max(id) + 1 from dispatch_patient) as p, (select max(id) + 1 from dispatch_instruction) as i,
               (select max(id) + 1 from dispatch_payment) as m, (select max(id) + 1 from dispatch_operation) as o`;
      if (!next) return;
      const number = Math.max(2, Math.round(count * 0.04));
      const insert = async (table: string, statement: string) => note(table, "inserted", (await tx.unsafe(statement)).count);
      await insert(
        "auth_user",
        `insert into auth_user select ${next.u} + n, 'new' || ${next.u} + n, 'New', 'Patient', 'new' || n || '@example.org', '!', false, false, true, timestamptz '2025-11-01 08:00:00.123456+00', null from generate_series(0, ${number - 1}) n`,
      );
      await insert(
        "dispatch_patient",
        `insert into dispatch_patient select ${next.p} + n, ${next.u} + n, (select min(user_id) from dispatch_doctorsetting), (select min(id) from dispatch_office), '1999-09-09', 1, 'N' || lpad(n::text, 3, '0'), 1, false, false, '{}', timestamptz '2025-11-01 08:00:00+00', null from generate_series(0, ${number - 1}) n`,
      );
      await insert(
        "dispatch_instruction",
        `insert into dispatch_instruction (id, patient_id, course_id, status, deleted, updated_at, suffix, cbct, price) select ${next.i} + n, ${next.p} + n, 1, 0, false, timestamptz '2025-11-01 08:00:00+00', 'NEW' || n % 10, false, 1234.50 from generate_series(0, ${number - 1}) n`,
      );
      await insert(
        "dispatch_payment",
        `insert into dispatch_payment select ${next.m} + n, null, ${next.i} + n, null, (select min(user_id) from dispatch_doctorsetting), (select min(id) from dispatch_office), 1234.50, 1134.50, 0, 0, null, 8.2500, 100, 0, false, false, false, false, '[]' from generate_series(0, ${number - 1}) n`,
      );
      await insert(
        "dispatch_operation",
        `insert into dispatch_operation select ${next.o} + n, ${next.m} + n, 1, timestamptz '2025-11-01 08:00:00+00', 1234.50, null, null, null, 'VISA', '400000', '0000', false, 1 from generate_series(0, ${number - 1}) n`,
      );
    });
  } finally {
    await sql.end();
  }
  return summary;
}
