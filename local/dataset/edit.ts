import type postgres from "postgres";
import { openConnection } from "./connect.ts";

export type EditSummary = Readonly<Record<string, { readonly inserted: number; readonly updated: number }>>;

interface Edit {
  readonly table: string;
  readonly kind: "inserted" | "updated";
  readonly statement: string;
}

/**
 * A morning's work in the old application: about `count` scattered changes, none of which touches a modification
 * time, as Django's bulk updates do. Deterministic for a seed and the data it meets.
 */
export async function applyEdits(options: { url: string; seed?: number; count?: number }): Promise<EditSummary> {
  const { seed = 1, count = 300 } = options;
  const sql = openConnection(options.url);
  const summary: Record<string, { inserted: number; updated: number }> = {};
  const run = async (connection: postgres.ISql, { table, kind, statement }: Edit) => {
    const { count: rows } = await connection.unsafe(statement);
    (summary[table] ??= { inserted: 0, updated: 0 })[kind] += rows;
  };
  const inOneTransaction = (edits: readonly Edit[]) =>
    sql.begin(async (tx) => {
      for (const edit of edits) await run(tx, edit);
    });
  try {
    for (const edit of scatteredEdits(Math.trunc(seed), count)) await run(sql, edit);
    await inOneTransaction(moves(Math.trunc(seed), count));
    await inOneTransaction(await arrivals(sql, Math.trunc(seed), Math.max(2, Math.round(count * 0.04))));
  } finally {
    await sql.end();
  }
  return summary;
}

/** A share of `count` rows of a table, scattered by a hash of their ids. */
function some(table: string, seed: number, rows: number): string {
  return `(select id from public.${table} order by md5(id::text || '/${seed}/${table}'), id limit ${Math.max(1, Math.round(rows))})`;
}

/** A doctor whose own record is surely in order: patients who are doctors may have a code that nobody knows. */
function someDoctor(seed: number, of: string): string {
  return `(select s.user_id from public.dispatch_doctorsetting s
    where not exists (select from public.dispatch_patient q where q.user_id = s.user_id)
    order by md5(s.user_id::text || '/${seed}/' || ${of}::text), s.user_id limit 1)`;
}

function someOffice(seed: number, of: string): string {
  return `(select o.id from public.dispatch_office o order by md5(o.id::text || '/${seed}/' || ${of}::text), o.id limit 1)`;
}

function scatteredEdits(seed: number, count: number): Edit[] {
  const update = (table: string, share: number, change: string): Edit => ({
    table,
    kind: "updated",
    statement: `update public.${table} set ${change} where id in ${some(table, seed, count * share)}`,
  });
  return [
    update("dispatch_payment", 0.3, "paid = not paid, paid_price = case when paid then 0 else total_price end"),
    update("dispatch_instruction", 0.13, "status = case status when 0 then 1 when 1 then 2 else 4 end"),
    update("dispatch_instruction", 0.12, "price = case when price < 99999999 then price + 0.01 else 1 end"),
    update("auth_user", 0.1, `last_name = 'Renamed' || id % 7 + ${seed}`),
    update("dispatch_office", 0.03, "phone = '+1 555 0100', tax_rate = 9.5000"),
    update("dispatch_operation", 0.02, "attempts = coalesce(attempts, 0) + 1"),
  ];
}

/** Patients move to another doctor and office: all their orders move, whose own rows say nothing of it. */
function moves(seed: number, count: number): Edit[] {
  const statement = `update public.dispatch_patient p set doctor_id = ${someDoctor(seed, "p.id")}, office_id = ${someOffice(seed, "p.id")}
    where id in ${some("dispatch_patient", seed, count * 0.05)}`;
  const paid = `update public.dispatch_payment set paid = true, paid_price = total_price
    where not paid and id in ${some("dispatch_payment", seed + 1, count * 0.05)}`;
  return [
    { table: "dispatch_patient", kind: "updated", statement },
    { table: "dispatch_payment", kind: "updated", statement: paid },
  ];
}

/** New patients, each with a user, an order, its payment and a card operation on that. */
async function arrivals(sql: postgres.ISql, seed: number, number: number): Promise<Edit[]> {
  const free = async (table: string) => {
    const [row] = await sql.unsafe<{ next: number }[]>(`select coalesce(max(id), 0) + 1 as next from public.${table}`);
    return row?.next ?? 1;
  };
  const [user, patient, instruction] = [
    await free("auth_user"),
    await free("dispatch_patient"),
    await free("dispatch_instruction"),
  ];
  const [payment, operation] = [await free("dispatch_payment"), await free("dispatch_operation")];
  const at = "timestamptz '2025-11-01 08:00:00.123456+00'";
  const insert = (table: string, columns: string, values: string): Edit => ({
    table,
    kind: "inserted",
    statement: `insert into public.${table} (${columns}) select ${values} from generate_series(0, ${number - 1}) n`,
  });
  const [doctor, office] = [someDoctor(seed, "n"), someOffice(seed, "n")];
  return [
    insert(
      "auth_user",
      "id, username, first_name, last_name, email, password, is_superuser, is_staff, is_active, date_joined",
      `${user} + n, 'new' || ${user} + n, 'New', 'Patient', 'new' || n || '@example.org', '!', false, false, true, ${at}`,
    ),
    insert(
      "dispatch_patient",
      "id, user_id, doctor_id, office_id, birthdate, sex, suffix, status, archived, suspended, schemes, submitted_at",
      `${patient} + n, ${user} + n, ${doctor}, ${office}, '1999-09-09', 1, 'N' || lpad((n % 1000)::text, 3, '0'), 1, false, false, '{}', ${at}`,
    ),
    insert(
      "dispatch_instruction",
      "id, patient_id, course_id, status, deleted, updated_at, suffix, cbct, price",
      `${instruction} + n, ${patient} + n, 1, 0, false, ${at}, 'NEW' || n % 10, false, 1234.50`,
    ),
    insert(
      "dispatch_payment",
      "id, instruction_id, doctor_id, office_id, total_price, subtotal_price, paid_price, additional_price, tax_rate, tax_value, used_credit, paid, canceled, free, netsuite, installments",
      `${payment} + n, ${instruction} + n, ${doctor}, ${office}, 1234.50, 1134.50, 0, 0, 8.2500, 100, 0, false, false, false, false, '[]'`,
    ),
    insert(
      "dispatch_operation",
      "id, payment_id, type, made_at, price, card_brand, card_bin, card_last, office_card, attempts",
      `${operation} + n, ${payment} + n, 1, ${at}, 1234.50, 'VISA', '400000', '0000', false, 1`,
    ),
  ];
}
