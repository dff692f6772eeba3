import { defineEntity, expression, idsOf, type Decision, type Problem, type SourceRow } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    jaws: { source: "dispatch_jaw"; target: "jaws" };
  }
}

/** Each place that an order gives the jaw, found by the index of its column. A join would multiply a jaw that two orders claim. */
const PLACES = `(select up.id, 'upper' as jaw from public.dispatch_instruction up where up.upper_jaw_id = j.id
  union all select low.id, 'lower' from public.dispatch_instruction low where low.lower_jaw_id = j.id) place`;

function jawType(row: SourceRow): Decision<"upper" | "lower"> {
  const places = row["places"] ?? null;
  return { value: places === null ? null : places.startsWith("upper") ? "upper" : "lower" };
}

function severalPlaces(row: SourceRow): Problem | undefined {
  const places = row["places"] ?? null;
  if (places?.includes(",") !== true) return undefined;
  const remedy = "A jaw belongs to one order, in one place, and several claim this one: correct the orders in the source.";
  return { rule: "jaws.order_id.one_order@1", remedy, evidence: { places } };
}

/** The order points to its jaws. One jaw cannot belong to two orders, nor lie in both places of one. */
export const jaws = defineEntity({
  name: "jaws",
  target: { table: "jaws", legacyKey: "legacy_jaw_id" },
  source: {
    table: "dispatch_jaw",
    key: "id",
    alias: "j",
    filters: ["product_id"],
    watches: {
      up: { table: "dispatch_instruction", on: { upper_jaw_id: "j.id" } },
      low: { table: "dispatch_instruction", on: { lower_jaw_id: "j.id" } },
    },
    columns: {
      order_id: idsOf("dispatch_instruction", `(select (array_agg(place.id))[1] from ${PLACES})`),
      // Such as lower:12, or lower:12,upper:14 where several are claimed.
      places: expression("text", `(select string_agg(jaw || ':' || place.id, ',' order by jaw, place.id) from ${PLACES})`),
      product_id: "j.product_id",
      labial: "j.labial",
      bond_teeth: "j.bond_teeth",
      extract_teeth: "j.extract_teeth",
      reason: "j.reason",
    },
    ignored: {},
  },
  fields: (f) => ({
    order_id: f.lookup("orders", "order_id", { unless: { columns: ["places"], problem: severalPlaces } }),
    product_id: f.lookup("products", "product_id"),
    jaw_type: f.decide(["places"], jawType, { members: { upper: true, lower: true } }),
    labial: f.copy("labial"),
    bond_teeth: f.copy("bond_teeth"),
    extract_teeth: f.copy("extract_teeth"),
    reason_code: f.copy("reason"),
  }),
});
