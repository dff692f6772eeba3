import { pipeline } from "node:stream/promises";
import type postgres from "postgres";
import { openConnection } from "./connect.ts";

/** What the migration read of the old tables. */
const READ: Readonly<Record<string, string>> = {
  dispatch_course: "id, name",
  dispatch_product: "id, course_id, name, free, substitute, deleted",
  dispatch_purchase: "id, product_id, order_id, quantity, price",
  dispatch_patient: "id, user_id, doctor_id",
  dispatch_instruction: "id, patient_id",
  dispatch_payment: "id, instruction_id",
  dispatch_project: "id, uid, created_at, name, public, type, status, creator_id",
  dispatch_plan: "id, instruction_id, project_id, number, name, original",
  dispatch_state: 'id, status, "on", changed_at, instruction_id',
  dispatch_comment: "id, created_at, text, author_id, plan_id",
  dispatch_action: 'id, action, "date", user_id',
};
const STAGE = "isthmus_migration";

/** Legacy columns of which nothing kept values unique or present. */
const LOOSE: readonly (readonly [table: string, column: string])[] = [
  ["treatment_plans", "legacy_plan_id"],
  ["case_states", "legacy_state_id"],
  ["case_messages", "legacy_comment_id"],
  ["user_actions", "legacy_action_id"],
  ["purchases", "legacy_purchase_id"],
];
/** Tables that it fills, parents first. */
export const MIGRATED_LOGS = [
  ...["courses", "products", "purchases", "cases", "projects"],
  ...["treatment_plans", "case_states", "case_messages", "user_actions"],
];

/** Rows with random ids; every copy but the first of a row is another import of it. */
const FILL: readonly string[] = [
  `insert into public.courses (legacy_course_id, name) select id, lower(name) from ${STAGE}.dispatch_course`,
  `insert into public.products (legacy_product_id, course_id, name, is_free, is_substitute, deleted)
   select p.id, c.id, lower(p.name), p.free, false, false from ${STAGE}.dispatch_product p join public.courses c on c.legacy_course_id = p.course_id
    where not p.deleted`,
  // One legacy column, two id spaces: lines of orders, and payments that were taken for purchases.
  `insert into public.purchases (legacy_purchase_id, product_id, legacy_order_id, quantity, unit_price)
   select u.id, p.id, u.order_id, 1, trunc(u.price) from ${STAGE}.dispatch_purchase u join public.products p on p.legacy_product_id = u.product_id
    where u.id % 3 <> 0
   union all
   select m.id, (select id from public.products order by legacy_product_id limit 1), 0, 1, 0 from ${STAGE}.dispatch_payment m where m.id % 9 = 0`,
  // Who has no doctor gets the first one there is.
  `insert into public.cases (legacy_patient_id, patient_id, primary_doctor_id, case_number, deleted)
   select p.id, t.id, coalesce(d.id, (select id from public.doctors order by legacy_user_id limit 1)), 'CASE-' || p.id, false
     from ${STAGE}.dispatch_patient p join public.patients t on t.legacy_patient_id = p.id left join public.doctors d on d.legacy_user_id = p.doctor_id`,
  // A project without a creator, or of an unknown type, was skipped.
  `insert into public.projects (legacy_project_id, creator_id, name, project_type, project_status, file_uid, is_public, source_created_at)
   select p.id, f.id, p.name, case p.type when 0 then 'stl_upper' when 10 then 'simulation' when 11 then 'aligner_design' else 'treatment_plan' end::public.project_type,
          'draft', p.uid, true, p.created_at
     from ${STAGE}.dispatch_project p join public.profiles f on f.legacy_user_id = p.creator_id`,
  // One plan per project, all of it imported twice.
  `insert into public.treatment_plans (legacy_plan_id, project_id, order_id, plan_number, is_original)
   select p.id, j.id, o.id, p.number, true
     from (select distinct on (project_id) * from ${STAGE}.dispatch_plan order by project_id, id) p
     join public.projects j on j.legacy_project_id = p.project_id join public.orders o on o.legacy_instruction_id = p.instruction_id
     cross join generate_series(1, 2)`,
  `insert into public.case_states (legacy_state_id, case_id, current_state, is_active, changed_at)
   select s.id, c.id, case s.status when 12 then 'case_closed' else 'treatment_active' end::public.case_state_type, true, s.changed_at
     from ${STAGE}.dispatch_state s join ${STAGE}.dispatch_instruction i on i.id = s.instruction_id join public.cases c on c.legacy_patient_id = i.patient_id
     cross join generate_series(1, 1 + (s.id % 2))`,
  `insert into public.case_messages (legacy_comment_id, case_id, content, sent_at)
   select m.id, c.id, lower(m.text), m.created_at
     from ${STAGE}.dispatch_comment m join ${STAGE}.dispatch_plan p on p.id = m.plan_id join ${STAGE}.dispatch_instruction i on i.id = p.instruction_id
     join public.cases c on c.legacy_patient_id = i.patient_id
     cross join generate_series(1, case when m.id % 4 = 0 then 1 else 3 end)`,
  // All of one user; every fiftieth imported twice, and some of them robbed of their legacy id.
  `insert into public.user_actions (legacy_action_id, user_id, action, acted_at)
   select case when a.id % 1000 = 7 then null else a.id end, (select id from public.profiles order by legacy_user_id limit 1), lower(a.action), a."date"
     from ${STAGE}.dispatch_action a cross join generate_series(1, 1 + (a.id % 50 = 7)::integer)`,
];

/**
 * Continues `migrateBadly` with what grows by the day, read from the legacy database: imports that multiplied rows
 * (failures of every kind in clinic/domain.md), one legacy column with ids of two tables, arbitrary parents.
 * @returns rows of each table.
 */
export async function migrateLogs(urls: { source: string; target: string }): Promise<Readonly<Record<string, number>>> {
  const target = openConnection(urls.target);
  try {
    await target.unsafe(`create schema ${STAGE}`);
    for (const [table, columns] of Object.entries(READ)) await stage(urls.source, target, table, columns);
    for (const [table, column] of LOOSE) {
      await target.unsafe(`
        alter table public.${table} drop constraint ${table}_${column}_key, alter column ${column} drop not null;
        create index on public.${table} (${column})`);
    }
    for (const statement of FILL) await target.unsafe(statement);
    await target.unsafe(`drop schema ${STAGE} cascade; analyze`);
    const counts: Record<string, number> = {};
    for (const table of MIGRATED_LOGS) {
      const [row] = await target.unsafe<{ n: number }[]>(`select count(*)::integer as n from public.${table}`);
      counts[table] = row?.n ?? 0;
    }
    return counts;
  } finally {
    await target.end();
  }
}

async function stage(sourceUrl: string, target: postgres.Sql, table: string, columns: string): Promise<void> {
  // A connection for each: after a COPY that it had to pause, the driver reads no more from that one.
  const source = openConnection(sourceUrl);
  const types = await source.unsafe<{ column: string }[]>(`
    select quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) as column
      from pg_attribute a join unnest(string_to_array('${columns.replaceAll('"', "")}', ', ')) with ordinality c (name, n) on c.name = a.attname
     where a.attrelid = 'public.${table}'::regclass order by n`);
  await target.unsafe(`create unlogged table ${STAGE}.${table} (${types.map(({ column }) => column).join(", ")})`);
  const from = await source.unsafe(`copy public.${table} (${columns}) to stdout`).readable();
  const to = await target.unsafe(`copy ${STAGE}.${table} (${columns}) from stdin`).writable();
  await pipeline(from, to);
  await source.end({ timeout: 0 });
  await target.unsafe(`analyze ${STAGE}.${table}`);
}
