import { json, records, type Projection } from "./projection.ts";

/** Which orders claim a jaw, and as which of the two. */
const CLAIMS = `(
  select jaw, min(id) as id, min(place) as place, count(*) as claims
    from (select upper_jaw_id as jaw, id, 'upper' as place from dispatch_instruction
          union all select lower_jaw_id, id, 'lower' from dispatch_instruction) x
   where jaw is not null group by jaw)`;

export const ORDERS: readonly Projection[] = [
  {
    entity: "orders",
    records: records({
      from: "dispatch_instruction i join dispatch_patient p on p.id = i.patient_id",
      id: "i.id",
      field: `case when i.course_id not in (1, 2, 3, 4, 7, 8) then 'course_type' when i.status not in (0, 1, 2, 4) then 'status' end`,
      refs: ["i.patient_id", "p.doctor_id", "p.office_id"],
      v: `p.suffix, i.course_id, i.status, i.price, i.suffix, i.notes, i.complaint, i.objective, ${json("i.exports")}, i.deleted,
          i.submitted_at, i.updated_at, i.model, i.scanner, i.scanner_notes, i.cbct, i.comprehensive, i.accept_extraction,
          ${json("i.conditions")}`,
    }),
    parents: [
      ["patient_id", "patients"],
      ["doctor_id", "doctors"],
      ["office_id", "offices"],
    ],
    money: { table: "dispatch_instruction", key: "id", columns: { amount: "price" } },
  },
  {
    entity: "order_cases",
    records: records({ from: "dispatch_instruction", refs: ["id", "patient_id"] }),
    parents: [
      ["order_id", "orders"],
      ["case_id", "cases"],
    ],
  },
  {
    entity: "jaws",
    records: records({
      from: `dispatch_jaw j left join ${CLAIMS} c on c.jaw = j.id`,
      id: "j.id",
      field: "case when c.claims > 1 then 'order_id' end",
      refs: ["c.id", "j.product_id"],
      v: "c.place, j.labial, j.bond_teeth, j.extract_teeth, j.reason",
    }),
    parents: [
      ["order_id", "orders"],
      ["product_id", "products"],
    ],
  },
  {
    entity: "payments",
    records: records({
      from: "dispatch_payment",
      refs: ["instruction_id", "doctor_id", "office_id"],
      v: `order_id, total_price, subtotal_price, paid_price, additional_price, custom_price, tax_rate, tax_value, used_credit,
          case when canceled then 'cancelled' when paid or free then 'completed' else 'pending' end, free, canceled, netsuite,
          ${json("installments")}, made_at`,
    }),
    parents: [
      ["order_id", "orders"],
      ["doctor_id", "doctors"],
      ["office_id", "offices"],
    ],
    money: {
      table: "dispatch_payment",
      key: "id",
      columns: {
        amount: "total_price",
        subtotal_amount: "subtotal_price",
        paid_amount: "paid_price",
        additional_amount: "additional_price",
        custom_amount: "custom_price",
        tax_amount: "tax_value",
        used_credit: "used_credit",
      },
    },
  },
  {
    entity: "operations",
    records: records({
      from: "dispatch_operation",
      field: "case when type in (1, 2) then null else 'operation_type' end",
      passes: "price >= 0",
      refs: ["payment_id"],
      v: "type, price, made_at, sq_order_id, sq_payment_id, sq_refund_id, card_brand, card_last, office_card, attempts",
    }),
    parents: [["payment_id", "payments"]],
    money: { table: "dispatch_operation", key: "id", columns: { amount: "price" } },
  },
  {
    entity: "order_states",
    records: records({ from: "dispatch_state", refs: ["instruction_id", "actor_id"], v: `status, "on", changed_at` }),
    parents: [
      ["order_id", "orders"],
      ["changed_by", "profiles"],
    ],
  },
  {
    entity: "case_states",
    records: records({
      from: "dispatch_state s join dispatch_instruction i on i.id = s.instruction_id",
      id: "s.id",
      field: "case when s.status in (11, 12) then null else 'current_state' end",
      refs: ["i.patient_id", "s.actor_id"],
      v: `s.status, s."on", s.changed_at`,
    }),
    parents: [
      ["case_id", "cases"],
      ["changed_by", "profiles"],
    ],
  },
  {
    entity: "doctor_notes",
    records: records({ from: "dispatch_note", refs: ["doctor_id", "author_id"], v: "text, created_at" }),
    parents: [
      ["doctor_id", "doctors"],
      ["author_id", "profiles"],
    ],
  },
];
