import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadLegacy } from "../clinic/dataset/load.ts";
import type { Manifest } from "../clinic/dataset/manifest.ts";
import { createTestSource, type TestDatabase } from "./support/databases.ts";

/** Large enough for loading without foreign keys, and making them anew. */
const SCALE = 0.05;

let source: TestDatabase;
let manifest: Manifest;

beforeAll(async () => {
  source = await createTestSource();
  manifest = await loadLegacy({ url: source.superuserUrl, scale: SCALE });
});
afterAll(() => source[Symbol.asyncDispose]());

async function count(from: string): Promise<number> {
  const [row] = await source.admin.unsafe<{ n: number }[]>(`select count(*)::integer as n from ${from}`);
  return row?.n ?? -1;
}

describe("the legacy schema", () => {
  it("has 53 dispatch_* tables and Django's own five", async () => {
    const tables = await source.admin<{ name: string }[]>`select tablename as name from pg_tables where schemaname = 'public'`;
    expect(tables.filter(({ name }) => name.startsWith("dispatch_"))).toHaveLength(53);
    expect(tables).toHaveLength(58);
  });

  it("is the same after loading as before: every foreign key valid, every index there", async () => {
    const catalogue = async (db: TestDatabase) => [
      ...(await db.admin<{ line: string }[]>`
        select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) || ' ' || convalidated as line
          from pg_constraint where connamespace = 'public'::regnamespace order by 1`),
      ...(await db.admin<{ line: string }[]>`select indexdef as line from pg_indexes where schemaname = 'public' order by 1`),
    ];
    await using fresh = await createTestSource();
    const expected = await catalogue(fresh);
    expect(expected.length).toBeGreaterThan(180);
    expect(await catalogue(source)).toEqual(expected);
  });

  it("indexes every foreign key column, as Django does", async () => {
    expect(
      await source.admin`
        select c.conrelid::regclass, c.conname from pg_constraint c
         where c.contype = 'f' and c.connamespace = 'public'::regnamespace
           and not exists (select from pg_index i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1])`,
    ).toEqual([]);
  });
});

describe("the loaded rows", () => {
  it("are as many as the manifest says, in every table", async () => {
    for (const [table, rows] of Object.entries(manifest.tables)) expect(await count(`public."${table}"`), table).toBe(rows);
    expect(Object.keys(manifest.tables)).toHaveLength(57);
  });

  it("refer to rows that exist, where a foreign key says so", async () => {
    const keys = await source.admin<{ child: string; col: string; parent: string; key: string }[]>`
      select c.conrelid::regclass::text as child, a.attname as col, c.confrelid::regclass::text as parent, k.attname as key
        from pg_constraint c
        join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
        join pg_attribute k on k.attrelid = c.confrelid and k.attnum = c.confkey[1]
       where c.contype = 'f' and c.connamespace = 'public'::regnamespace`;
    expect(keys).toHaveLength(70);
    for (const { child, col, parent, key } of keys) {
      const orphans = `${child} c where c."${col}" is not null and not exists (select from ${parent} p where p."${key}" = c."${col}")`;
      expect(await count(orphans), `${child}.${col}`).toBe(0);
    }
  });

  it("hold text unharmed: tabs, line breaks, backslashes, quotes, emoji", async () => {
    const names = await source.admin<{ name: string }[]>`select last_name as name from public.auth_user`;
    for (const text of ["tab\there", "line\nbreak\r\nand return", "back\\slash \\N \\. and 'single' \"double\" quotes", "\\."])
      expect(names.map(({ name }) => name)).toContain(text);
    expect(names.some(({ name }) => name.includes("😀"))).toBe(true);
  });

  it("have no infinite time", async () => {
    const columns = await source.admin<{ t: string; c: string }[]>`
      select table_name as t, column_name as c from information_schema.columns
       where table_schema = 'public' and data_type = 'timestamp with time zone'`;
    expect(columns.length).toBeGreaterThan(15);
    for (const { t, c } of columns) expect(await count(`public."${t}" where not isfinite("${c}")`), `${t}.${c}`).toBe(0);
  });

  it("keep the secrets fake", async () => {
    expect(await count("public.auth_user where password not like '%this-is-not-a-password'")).toBe(0);
    expect(await count("public.dispatch_globalsetting where access_token not like 'fake-%'")).toBe(0);
  });
});

describe("each kind of dirt", () => {
  const namedAlone = (row: string) => `${row}.doctor_id not in (
      select user_id from dispatch_doctorsetting union select user_id from dispatch_usersetting union select user_id from dispatch_office_doctors
      union select doctor_id from dispatch_patient where doctor_id is not null
      union select doctor_id from dispatch_payment where doctor_id is not null
      union select m.user_id from auth_user_groups m join auth_group g on g.id = m.group_id where g.name = 'Doctor')`;
  const jsonb = (column: string) => `${column} <> '' and not pg_input_is_valid(${column}, 'jsonb')`;
  const kinds: readonly (readonly [kind: string, from: string, atLeast: number])[] = [
    ["offices without country", "dispatch_office where country is null", 1],
    ["tax rates as percent", "dispatch_office where tax_rate > 1", 2],
    ["tax rates as fraction", "dispatch_office where tax_rate > 0 and tax_rate < 1", 2],
    ["foreign phones", "dispatch_office where phone ~ '^(\\+|00)'", 2],
    ["postal codes that are no numbers", "dispatch_office where zip !~ '^[0-9]+$'", 1],
    ["offices abroad that are not valid", "dispatch_office where country <> 'USA' and not valid", 10],
    ["offices with an empty name", "dispatch_office where name = ''", 1],
    ["empty first names", "auth_user where first_name = ''", 2],
    ["the first name null", "auth_user where lower(first_name) = 'null'", 2],
    ["the last name null", "auth_user where lower(last_name) = 'null'", 2],
    ["empty addresses", "auth_user where email = ''", 5],
    ["the address null", "auth_user where email = 'null'", 2],
    ["invalid addresses", "auth_user where email not in ('', 'null') and email !~ '^[^@ ]+@[^@ ]+$'", 2],
    ["accounts that share one address", "auth_user where email = 'front.desk0@example.com'", 11],
    ["names borne by several", "(select from auth_user group by first_name, last_name having count(*) > 1) x", 2],
    ["inactive users", "auth_user where not is_active", 5],
    ["users who never logged in", "auth_user where last_login is null", 5],
    ["users in several groups", "(select from auth_user_groups group by user_id having count(*) > 1) x", 3],
    [
      "superusers who are patients",
      "auth_user u where is_superuser and exists (select from dispatch_patient where user_id = u.id)",
      1,
    ],
    [
      "doctors by doctor settings alone",
      "dispatch_doctorsetting s where not exists (select from auth_user_groups g where g.user_id = s.user_id) and not exists (select from dispatch_usersetting x where x.user_id = s.user_id) and not exists (select from dispatch_office_doctors o where o.user_id = s.user_id) and not exists (select from dispatch_patient p where p.doctor_id = s.user_id)",
      1,
    ],
    [
      "doctors whom only a payment names",
      "auth_user u where exists (select from dispatch_payment m where m.doctor_id = u.id) and not exists (select from dispatch_patient p where p.doctor_id = u.id) and not exists (select from auth_user_groups g where g.user_id = u.id) and not exists (select from dispatch_doctorsetting s where s.user_id = u.id) and not exists (select from dispatch_usersetting s where s.user_id = u.id)",
      1,
    ],
    ["patients without doctor", "dispatch_patient where doctor_id is null", 1],
    ["patients without office", "dispatch_patient where office_id is null", 1],
    ["patients without birth date", "dispatch_patient where birthdate is null", 1],
    ["patients born before 1900", "dispatch_patient where birthdate < '1900-01-01'", 1],
    ["empty suffixes", "dispatch_patient where suffix = ''", 2],
    ["suffixes of another length", "dispatch_patient where length(suffix) not in (0, 4)", 1],
    ["sex 0", "dispatch_patient where sex = 0", 1],
    ["sex NULL", "dispatch_patient where sex is null", 1],
    ["sex unknown", "dispatch_patient where sex = 7", 1],
    ["status NULL", "dispatch_patient where status is null", 1],
    ["status 3", "dispatch_patient where status = 3", 1],
    ["status 7", "dispatch_patient where status = 7", 1],
    ["status 99", "dispatch_patient where status = 99", 1],
    ["schemes ''", "dispatch_patient where schemes = ''", 1],
    ["schemes []", "dispatch_patient where schemes = '[]'", 1],
    ["schemes that are no JSON", `dispatch_patient where schemes <> '' and not pg_input_is_valid(schemes, 'json')`, 3],
    ["schemes that only jsonb refuses", `dispatch_patient where pg_input_is_valid(schemes, 'json') and ${jsonb("schemes")}`, 1],
    ["archived and suspended", "dispatch_patient where archived and suspended", 1],
    ["patients never updated", "dispatch_patient where updated_at is null", 1],
    ["deleted orders", "dispatch_instruction where deleted", 10],
    ["order status 3", "dispatch_instruction where status = 3", 1],
    ["order status 9", "dispatch_instruction where status = 9", 1],
    ["courses that no map has", "dispatch_instruction where course_id in (5, 9)", 2],
    ["exports {}", "dispatch_instruction where exports = '{}'", 1],
    ["exports ''", "dispatch_instruction where exports = ''", 1],
    ["exports that jsonb refuses", `dispatch_instruction where ${jsonb("exports")}`, 6],
    ["orders without price", "dispatch_instruction where price is null", 1],
    ["notes of 100 KB", "dispatch_instruction where octet_length(notes) > 90000", 2],
    ["orders updated at the same time", "(select from dispatch_instruction group by updated_at having count(*) > 1) x", 1],
    [
      "jaws of two orders",
      "(select from (select upper_jaw_id j from dispatch_instruction union all select lower_jaw_id from dispatch_instruction) a where j is not null group by j having count(*) > 1) x",
      1,
    ],
    ["payments of merchandise", "dispatch_payment where order_id is not null and instruction_id is null", 5],
    ["payments of nothing", "dispatch_payment where order_id is null and instruction_id is null", 2],
    ["every combination of flags", "(select distinct canceled, paid, free from dispatch_payment) x", 8],
    ["payments without time", "dispatch_payment where made_at is null", 1],
    ["installments ''", "dispatch_payment where installments = ''", 1],
    ["installments []", "dispatch_payment where installments = '[]'", 1],
    ["installments that jsonb refuses", `dispatch_payment where ${jsonb("installments")}`, 6],
    ["the largest amount", "dispatch_payment where total_price = 99999999.99", 1],
    ["the smallest amount", "dispatch_payment where subtotal_price = 0.01", 1],
    ["operations without payment", "dispatch_operation where payment_id is null", 1],
    ["operations of no type", "dispatch_operation where type is null", 1],
    ["operations of type 3", "dispatch_operation where type = 3", 1],
    ["negative operations", "dispatch_operation where price < 0", 1],
    ["operations without amount", "dispatch_operation where price is null", 1],
    ["operations with attempts", "dispatch_operation where attempts > 1", 1],
    ["products with a customization that is no JSON", `dispatch_product where ${jsonb("customization")}`, 1],
    ["template contexts that are no JSON", "dispatch_notification where template_context like '{''%'", 2],
    ["template contexts NULL and ''", "dispatch_notification where coalesce(template_context, '') = ''", 2],
    ["sent and send", "dispatch_notification where sent and send", 101_979],
    [
      "references into a model that is gone",
      "dispatch_record r join django_content_type t on t.id = r.target_type_id where t.app_label = 'retired_app'",
      1,
    ],
    ["record types", "(select distinct type from dispatch_record where type in (3, 5, 6, 8)) x", 4],
    ["blank comments", "dispatch_comment where trim(text) = ''", 1],
    ["comments without text", "dispatch_comment where text is null", 1],
    ["states 11 and 12", "(select distinct status from dispatch_state where status in (11, 12)) x", 2],
    ["projects with several plans", "(select from dispatch_plan group by project_id having count(*) > 1) x", 100],
    ["files of nothing", "dispatch_file where instruction_id is null and record_id is null", 1_000],
    ["files of both", "dispatch_file where instruction_id is not null and record_id is not null", 1],
    ["an offer without doctor", "dispatch_offer where doctor_id is null", 1],
    ["jaws that an order has in both places", "dispatch_instruction where upper_jaw_id = lower_jaw_id", 1],
    [
      "jaws of no order",
      "dispatch_jaw j where not exists (select from dispatch_instruction i where j.id in (i.upper_jaw_id, i.lower_jaw_id))",
      1,
    ],
    ["jaws of an unknown reason", "dispatch_jaw where reason = 9", 1],
    ["states beside 11 and 12", "dispatch_state where status not in (11, 12)", 3],
    ["projects of unknown type", "dispatch_project where type not in (0, 3, 10, 11)", 3],
    ["projects of unknown status", "dispatch_project where status not in (0, 2)", 1],
    ["projects of unknown type and status", "dispatch_project where type not in (0, 3, 10, 11) and status not in (0, 2)", 1],
    ["projects without creator", "dispatch_project where creator_id is null", 10],
    ["plans without a name", "dispatch_plan where name = ''", 100],
    ["brackets of no project", "dispatch_bracket where project_id is null", 1],
    ["files with a doubled extension", "dispatch_file where name like '%.stl.stl'", 10],
    ["files whose parameters jsonb refuses", `dispatch_file where ${jsonb("parameters")}`, 7],
    ["files with parameters ''", "dispatch_file where parameters = ''", 1],
    ["files without name", "dispatch_file where name is null", 10],
    ["files without extension", "dispatch_file where ext is null", 10],
    ["records without content type", "dispatch_record where target_type_id is null", 2],
    [
      "records to nobody",
      "dispatch_record r join django_content_type t on t.id = r.target_type_id and t.app_label = 'dispatch' and t.model = 'patient' where not exists (select from dispatch_patient p where p.id = r.target_id)",
      1,
    ],
    [
      "records to a model that shares its name with another",
      "dispatch_record r join django_content_type t on t.id = r.target_type_id and t.model = 'patient' and t.app_label <> 'dispatch'",
      1,
    ],
    ["record types that nobody knows", "dispatch_record where type = 99", 1],
    ["records of a group that is gone", "dispatch_record r where group_id not in (select id from auth_group)", 1],
    ["records neither public nor not", "dispatch_record where public is null", 10],
    ["notes without text", "dispatch_note where text is null", 1],
    ["blank notes", "dispatch_note where trim(text) = ''", 2],
    [
      "notes about somebody whom nothing else makes a doctor",
      `dispatch_note n where ${namedAlone("n")} and not exists (select from dispatch_offer o where o.doctor_id = n.doctor_id)`,
      1,
    ],
    [
      "offers to somebody whom nothing else makes a doctor",
      `dispatch_offer o where ${namedAlone("o")} and not exists (select from dispatch_note n where n.doctor_id = o.doctor_id)`,
      1,
    ],
    ["all four of sent and send", "(select distinct sent, send from dispatch_notification) x", 4],
    ["messages to nobody", "dispatch_notification where sent and send and recipient_id is null", 100],
    [
      "sendable messages whose context is no JSON",
      "dispatch_notification where sent and send and template_context = '{''broken'",
      1,
    ],
    [
      "sendable messages whose context only jsonb refuses",
      `dispatch_notification where sent and send and ${jsonb("template_context")}`,
      2,
    ],
    [
      "what messages are about",
      "(select distinct t.app_label, t.model from dispatch_notification n left join django_content_type t on t.id = n.item_type_id where n.sent and n.send) x",
      6,
    ],
    ["messages about an item without id", "dispatch_notification where sent and send and item_id is null", 10],
    [
      "messages about an instruction that is gone",
      "dispatch_notification n join django_content_type t on t.id = n.item_type_id and t.model = 'instruction' where n.sent and n.send and not exists (select from dispatch_instruction i where i.id = n.item_id)",
      1,
    ],
    ["tasks without instruction", "dispatch_task where instruction_id is null", 100],
    ["tasks of a merchandise order", "dispatch_task where instruction_id is null and order_id is not null", 100],
    ["tasks of both", "dispatch_task where instruction_id is not null and order_id is not null", 10],
    ["tasks of an unknown jaw", "dispatch_task where jaw = 9", 10],
    ["tasks done at no time", "dispatch_task where checked and done_at is null", 10],
    [
      "actions on a model that is gone",
      "dispatch_action a join django_content_type t on t.id = a.item_type_id and t.model = 'vanished'",
      10,
    ],
    ["actions on nothing", "dispatch_action where item_id is null and item_type_id is null", 10],
    ["actions of nobody", "dispatch_action where user_id is null", 100],
    ["offers to somebody who is no doctor", "dispatch_offer o join dispatch_patient p on p.user_id = o.doctor_id", 1],
    ["offers without prices", "dispatch_offer where price_both is null", 1],
    ["discounts outside 0..100", "dispatch_discount where percent not between 0 and 100", 2],
    [
      "discounts of an offer without doctor",
      "dispatch_discount d join dispatch_offer o on o.id = d.offer_id where o.doctor_id is null",
      1,
    ],
    ["discounts that end before they start", "dispatch_discount where finish < start", 1],
    ["categories below their child", "dispatch_category where parent_id > id", 2],
    [
      "categories below categories below categories",
      "dispatch_category a join dispatch_category b on b.id = a.parent_id where b.parent_id is not null",
      2,
    ],
    ["products that are deleted", "dispatch_product where deleted", 2],
    ["courses of no type", "dispatch_course where type is null", 1],
    ["roles of nobody and no group", "dispatch_role where user_id is null and group_id is null", 1],
    ["permissions on no model", "auth_permission where content_type_id is null", 1],
    ["templates whose name is their text's", "dispatch_template where coalesce(task_name, '') = '' and text_name <> ''", 2],
    ["templates without a name", "dispatch_template where coalesce(task_name, '') = '' and coalesce(text_name, '') = ''", 2],
    ["templates of an unknown status", "dispatch_template where status = 7", 1],
    ...(
      [
        ["role_permissions", "role_id", "permission_id"],
        ["template_edit_roles", "template_id", "role_id"],
        ["template_view_roles", "template_id", "role_id"],
        ["template_view_groups", "template_id", "group_id"],
        ["template_products", "template_id", "product_id"],
        ["template_predecessors", "from_template_id", "to_template_id"],
      ] as const
    ).map(([name, from, to]) => {
      const ends = `(select distinct ${from} is null, ${to} is null from dispatch_${name}) x`;
      return [`${name} without one end, the other, and both`, ends, 4] as const;
    }),
    [
      "technicians in several groups",
      "(select m.user_id from auth_user_groups m where m.user_id in (select t.user_id from auth_user_groups t join auth_group g on g.id = t.group_id and g.name = 'Technician') group by 1 having count(*) > 1) x",
      2,
    ],
  ];

  it.each(kinds)("occurs: %s", async (_, from, atLeast) => {
    expect(await count(from)).toBeGreaterThanOrEqual(atLeast);
  });
});
