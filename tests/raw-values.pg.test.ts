import { describe, expect, it } from "vitest";
import { registry } from "../clinic/entities/registry.gen.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

type Raw = Readonly<Record<string, string | null>> | null;

/** What is kept beside each record of an entity, by legacy id. */
async function rawOf({ target }: Pipeline, entity: string): Promise<Record<string, Raw>> {
  const rows = await target.admin<{ id: string; raw: Raw }[]>`
    select s.legacy_id::text as id, s.raw from public.sync_row_states s join public.sync_entities e on e.id = s.entity_id
     where e.entity_type = ${entity} order by s.legacy_id`;
  return Object.fromEntries(rows.map(({ id, raw }) => [id, raw]));
}

describe("what the source said behind a value", () => {
  it("follows the source even when the mapped value stays the same", async () => {
    await using test = await createPipeline();
    await test.seed.group(3, "Technician");
    await test.seed.user(1);
    await test.seed.membership(1, 1, 3);
    await test.sync();
    expect(await rawOf(test, "profiles")).toMatchObject({ 1: { first_name: "" } });
    // '' and 'null' both mean none.
    await test.source.admin`update public.auth_user set first_name = 'null' where id = 1`;
    await test.sync();
    expect(await rawOf(test, "profiles")).toMatchObject({ 1: { first_name: "null" } });
  });

  it("tells a cancelled payment that had been paid from one that had not, and follows the source", async () => {
    await using test = await createPipeline();
    await test.seed.payment(1, { paid: true });
    await test.seed.payment(2, { paid: false });
    await test.seed.payment(3, { paid: false });
    await test.source.admin`update public.dispatch_payment set canceled = true where id in (1, 2)`;
    await test.sync();
    const statuses = async () =>
      (
        await test.target.admin<{ status: string }[]>`
          select payment_status::text as status from public.payments order by legacy_payment_id`
      ).map(({ status }) => status);
    expect(await statuses()).toEqual(["cancelled", "cancelled", "pending"]);
    // canceled and free have columns of their own in the target.
    expect(await rawOf(test, "payments")).toEqual({ 1: { paid: "true" }, 2: { paid: "false" }, 3: { paid: "false" } });

    await test.source.admin`update public.dispatch_payment set paid = false where id = 1`;
    await test.source.admin`update public.dispatch_payment set paid = true where id = 2`;
    await test.sync();
    expect(await statuses()).toEqual(["cancelled", "cancelled", "pending"]);
    expect(await rawOf(test, "payments")).toEqual({ 1: { paid: "false" }, 2: { paid: "true" }, 3: { paid: "false" } });
  });

  it("tells an archived case from a suspended one; a flag that is not kept is as the value says", async () => {
    await using test = await createPipeline();
    for (const id of [1, 2, 3, 4]) await test.seed.patient(id, { userId: 100 + id });
    await test.source.admin`update public.dispatch_patient set archived = true where id in (2, 4)`;
    await test.source.admin`update public.dispatch_patient set suspended = true where id in (3, 4)`;
    await test.sync();
    expect(await rawOf(test, "cases")).toEqual({ 1: null, 2: { suspended: "false" }, 3: { archived: "false" }, 4: null });
    await test.source.admin`update public.dispatch_patient set archived = false where id = 4`;
    await test.sync();
    expect(await rawOf(test, "cases")).toMatchObject({ 4: { archived: "false" } });
  });

  it("is kept of every code and flag that the target does not have as it is", () => {
    /** Parts of a text that stand in it as they are. */
    const inTheText = [
      "cases.case_number: suffix",
      "orders.order_number: patient_suffix",
      "role_permissions.resource: app_label",
      "role_permissions.resource: model",
    ];
    const lost = registry.flatMap(({ name, source, fields }) => {
      const all = Object.values(fields);
      const kept = new Set(
        all.filter((field) => field.keepRaw || field.kind === "direct_copy").flatMap(({ columns }) => columns),
      );
      return Object.entries(fields)
        .filter(([, { kind }]) => ["calculated_field", "enum_mapping", "business_logic"].includes(kind))
        .flatMap(([field, { columns }]) =>
          columns
            .filter((column) => !kept.has(column) && source.columns[column] !== `${source.alias}.${source.key}`)
            .map((column) => `${name}.${field}: ${column}`),
        );
    });
    expect(lost.sort()).toEqual(inTheText);
  });
});
