import type postgres from "postgres";
import { someDoctor, someOffice, type Edit } from "./edit.ts";

const AT = "timestamptz '2025-11-01 08:00:00.123456+00'";

const TABLES = [
  ...["auth_user", "dispatch_patient", "dispatch_jaw", "dispatch_instruction", "dispatch_payment", "dispatch_operation"],
  ...["dispatch_project", "dispatch_plan", "dispatch_record", "dispatch_file", "dispatch_comment", "dispatch_notification"],
  ...["dispatch_task", "dispatch_action", "dispatch_state", "auth_user_groups"],
] as const;
type Table = (typeof TABLES)[number];

/** New patients, each with a user, an order, its payment and operation, and everything that the application makes of an order. */
export async function arrivals(sql: postgres.ISql, seed: number, number: number): Promise<Edit[]> {
  const free = new Map<string, number>();
  for (const table of TABLES) {
    const [row] = await sql.unsafe<{ next: number }[]>(`select (coalesce(max(id), 0) + 1)::integer as next from public.${table}`);
    free.set(table, row?.next ?? 1);
  }
  const id = (table: Table) => `${free.get(table) ?? 1} + n`;
  const insert = (table: Table, columns: string, values: string): Edit => ({
    table,
    kind: "inserted",
    statement: `insert into public.${table} (id, ${columns}) select ${id(table)}, ${values} from generate_series(0, ${number - 1}) n`,
  });
  return [...ordered(insert, id, seed), ...worked(insert, id), newTechnician(free.get("auth_user_groups") ?? 1, seed)];
}

type Insert = (table: Table, columns: string, values: string) => Edit;
type Id = (table: Table) => string;

function ordered(insert: Insert, id: Id, seed: number): Edit[] {
  const [doctor, office] = [someDoctor(seed, "n"), someOffice(seed, "n")];
  return [
    insert(
      "auth_user",
      "username, first_name, last_name, email, password, is_superuser, is_staff, is_active, date_joined",
      `'new' || ${id("auth_user")}, 'New', 'Patient', 'new' || n || '@example.org', '!', false, false, true, ${AT}`,
    ),
    insert(
      "dispatch_patient",
      "user_id, doctor_id, office_id, birthdate, sex, suffix, status, archived, suspended, schemes, submitted_at",
      `${id("auth_user")}, ${doctor}, ${office}, '1999-09-09', 1, 'N' || lpad((n % 1000)::text, 3, '0'), 1, false, false, '{}', ${AT}`,
    ),
    insert(
      "dispatch_jaw",
      "bond_teeth, extract_teeth, labial, product_id",
      "'0000111100001111', '0000000000000000', false, (select min(id) from public.dispatch_product)",
    ),
    insert(
      "dispatch_instruction",
      "patient_id, course_id, status, deleted, updated_at, suffix, cbct, price, upper_jaw_id",
      `${id("dispatch_patient")}, 1, 0, false, ${AT}, 'NEW' || n % 10, false, 1234.50, ${id("dispatch_jaw")}`,
    ),
    insert(
      "dispatch_payment",
      "instruction_id, doctor_id, office_id, total_price, subtotal_price, paid_price, additional_price, tax_rate, tax_value, used_credit, paid, canceled, free, netsuite, installments",
      `${id("dispatch_instruction")}, ${doctor}, ${office}, 1234.50, 1134.50, 0, 0, 8.2500, 100, 0, false, false, false, false, '[]'`,
    ),
    insert(
      "dispatch_operation",
      "payment_id, type, made_at, price, card_brand, card_bin, card_last, office_card, attempts",
      `${id("dispatch_payment")}, 1, ${AT}, 1234.50, 'VISA', '400000', '0000', false, 1`,
    ),
    insert("dispatch_state", `status, "on", changed_at, instruction_id`, `11, true, ${AT}, ${id("dispatch_instruction")}`),
  ];
}

function worked(insert: Insert, id: Id): Edit[] {
  const type = (model: string) =>
    `(select id from public.django_content_type where app_label = 'dispatch' and model = '${model}')`;
  return [
    insert(
      "dispatch_project",
      "uid, created_at, name, public, type, status",
      `md5(${id("dispatch_project")} || ''), ${AT}, 'New', false, 3, 0`,
    ),
    insert(
      "dispatch_plan",
      "instruction_id, project_id, name, original",
      `${id("dispatch_instruction")}, ${id("dispatch_project")}, 'New', true`,
    ),
    insert(
      "dispatch_record",
      "target_type_id, target_id, type, created_at, text",
      `${type("patient")}, ${id("dispatch_patient")}, 3, ${AT}, 'Welcome'`,
    ),
    insert(
      "dispatch_file",
      "uid, name, ext, size, type, status, instruction_id, record_id, parameters, created_at",
      `md5(${id("dispatch_file")} || ''), 'new.stl', '.stl', 1, 1, 0, ${id("dispatch_instruction")}, ${id("dispatch_record")}, '{}', ${AT}`,
    ),
    insert("dispatch_comment", "created_at, text, plan_id", `${AT}, 'New', ${id("dispatch_plan")}`),
    insert(
      "dispatch_notification",
      "created_at, template_name, template_context, read, item_id, item_type_id, recipient_id, sent, send",
      `${AT}, 'new', '{}', false, ${id("dispatch_instruction")}, ${type("instruction")}, ${id("auth_user")}, true, true`,
    ),
    insert(
      "dispatch_task",
      "template_id, checked, instruction_id, plan_id, file_id, jaw",
      `(select min(id) from public.dispatch_template), false, ${id("dispatch_instruction")}, ${id("dispatch_plan")}, ${id("dispatch_file")}, 0`,
    ),
    insert(
      "dispatch_action",
      "action, date, item_id, item_type_id",
      `'create', ${AT}, ${id("dispatch_instruction")}, ${type("instruction")}`,
    ),
  ];
}

/** A doctor joins the technicians: another kind of profile, and a technician who was none. */
function newTechnician(id: number, seed: number): Edit {
  return {
    table: "auth_user_groups",
    kind: "inserted",
    statement: `insert into public.auth_user_groups (id, user_id, group_id)
      select ${id}, ${someDoctor(seed, "g.id")}, g.id from public.auth_group g where g.name = 'Technician'
      on conflict do nothing`,
  };
}
