import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { loadLegacy } from "../local/dataset/load.ts";
import type { Manifest } from "../local/dataset/manifest.ts";
import { createTestSource, type TestDatabase } from "./support/databases.ts";

const SCALE = { scale: 0.02, logScale: 0.0005 };

async function digest(db: TestDatabase): Promise<Record<string, string>> {
  const tables = await db.admin<{ name: string }[]>`
    select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' and relname ~ '^(dispatch|auth|django)_' order by 1`;
  const result: Record<string, string> = {};
  for (const { name } of tables) {
    const hash = createHash("sha256");
    for (const row of await db.admin.unsafe<{ line: string }[]>(`select t::text as line from public.${name} t order by id`))
      hash.update(`${row.line}\n`);
    result[name] = hash.digest("hex");
  }
  return result;
}

describe("the generated legacy database", () => {
  it("is the same for the same seed, in every table, and another for another seed", async () => {
    await using one = await createTestSource();
    await using two = await createTestSource();
    await using three = await createTestSource();
    const manifests: Manifest[] = [];
    for (const [db, seed] of [
      [one, 7],
      [two, 7],
      [three, 8],
    ] as const)
      manifests.push(await loadLegacy({ url: db.superuserUrl, seed, ...SCALE }));
    const [first, again, other] = [await digest(one), await digest(two), await digest(three)];
    expect(first).toEqual(again);
    expect(manifests[0]).toEqual(manifests[1]);
    expect(Object.keys(first).filter((name) => name.startsWith("dispatch_"))).toHaveLength(53);
    const same = Object.keys(first).filter((name) => first[name] === other[name] && (manifests[0]?.tables[name] ?? 0) > 5);
    expect(same).not.toContain("auth_user");
    expect(same).not.toContain("dispatch_payment");
  });

  it("counts in its manifest what is in the tables, and holds each kind of dirt at least once", async () => {
    await using db = await createTestSource();
    const manifest = await loadLegacy({ url: db.superuserUrl, ...SCALE, scale: 0.1 });
    for (const [table, count] of Object.entries(manifest.tables)) {
      expect((await db.admin.unsafe<{ n: number }[]>(`select count(*)::integer as n from public.${table}`))[0]?.n, table).toBe(
        count,
      );
    }
    const kinds: Record<string, string> = {
      "an office without country": "dispatch_office where country is null",
      "an office outside the USA, not valid": "dispatch_office where country <> 'USA' and not valid",
      "a tax rate as percent": "dispatch_office where tax_rate > 1",
      "a tax rate as fraction": "dispatch_office where tax_rate between 0.01 and 1",
      "a foreign post code": "dispatch_office where zip ~ '[^0-9]'",
      "an empty name": "auth_user where first_name = ''",
      "the text null as a name": "auth_user where last_name = 'null' or first_name ~* '^null$'",
      "an e-mail shared by many":
        "(select email from public.auth_user where email like '%@%' group by email having count(*) > 5) as shared",
      "an invalid e-mail": "auth_user where email = 'not an address'",
      "a user in several groups": "(select user_id from public.auth_user_groups group by user_id having count(*) > 1) as several",
      "a user who is patient and doctor":
        "auth_user_groups g join public.dispatch_patient p on p.user_id = g.user_id where g.group_id = 2",
      "an unknown sex": "dispatch_patient where sex = 7",
      "an unknown patient status": "dispatch_patient where status not in (1, 2, 4, 10)",
      "a birth date before 1900": "dispatch_patient where birthdate < '1900-01-01'",
      "JSON that does not parse":
        "dispatch_patient where schemes in ('None', '<xml/>') or schemes like '{''%' or schemes like '%NaN%' or schemes like '%,}'",
      "JSON unknown to jsonb": "dispatch_patient where schemes like '%u0000%' or schemes like '%ud800%'",
      "a patient without doctor": "dispatch_patient where doctor_id is null",
      "an unknown order status": "dispatch_instruction where status not in (0, 1, 2, 4)",
      "a course outside the map": "dispatch_instruction where course_id in (5, 9)",
      "a very long note": "dispatch_instruction where length(notes) > 90000",
      "the largest amount": "dispatch_instruction where price = 99999999.99",
      "a deleted order": "dispatch_instruction where deleted",
      "a merchandise payment": "dispatch_payment where order_id is not null and instruction_id is null",
      "an operation without type": "dispatch_operation where type is null or type = 3",
      "a negative amount": "dispatch_operation where price < 0",
      "an operation without payment": "dispatch_operation where payment_id is null",
      "several plans in a project": "(select project_id from public.dispatch_plan group by 1 having count(*) > 1) as several",
      "a file with neither parent": "dispatch_file where instruction_id is null and record_id is null",
      "a generic reference to a model that is gone":
        "dispatch_notification n join public.django_content_type t on t.id = n.item_type_id where t.app_label = 'retired_app'",
      "an unparseable notification": "dispatch_notification where template_context like '{''%'",
      "equal timestamps":
        "(select date_joined from public.auth_user where extract(minute from date_joined) = 0 and extract(second from date_joined) = 0) as hourly",
    };
    for (const [kind, where] of Object.entries(kinds)) {
      const text = where.startsWith("(")
        ? `select count(*)::integer as n from ${where}`
        : `select count(*)::integer as n from public.${where}`;
      expect((await db.admin.unsafe<{ n: number }[]>(text))[0]?.n, kind).toBeGreaterThan(0);
    }
  });
});
