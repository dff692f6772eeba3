import { json, type Recomputed } from "./recompute.ts";

const WITH_PATIENT = "join dispatch_instruction i on i.id = x.instruction_id join dispatch_patient p on p.id = i.patient_id";

export const orders: readonly Recomputed[] = [
  {
    entity: "orders",
    source: { from: "dispatch_instruction i join dispatch_patient p on p.id = i.patient_id", id: "i.id" },
    target: {
      from: `orders t left join patients p on p.id = t.patient_id left join doctors d on d.id = t.doctor_id
             left join offices o on o.id = t.office_id`,
      id: "t.legacy_instruction_id",
    },
    columns: {
      order_number: ["case when p.suffix <> '' then p.suffix || '-' else '' end || i.id"],
      patient_id: ["i.patient_id", "p.legacy_patient_id"],
      doctor_id: ["p.doctor_id", "d.legacy_user_id"],
      office_id: ["p.office_id", "o.legacy_office_id"],
      course_type: [
        `case i.course_id when 1 then 'main' when 2 then 'refinement' when 3 then 'replacement' when 4 then 'any'
                          when 7 then 'invoice' when 8 then 'merchandise' end`,
      ],
      status: ["case i.status when 0 then 'no_product' when 1 then 'submitted' when 2 then 'approved' when 4 then 'shipped' end"],
      amount: ["i.price"],
      suffix: ["i.suffix"],
      notes: ["i.notes"],
      complaint: ["i.complaint"],
      objective: ["i.objective"],
      exports: [json("i.exports")],
      metadata: [
        `jsonb_build_object('model', i.model, 'scanner', i.scanner, 'scanner_notes', i.scanner_notes, 'cbct', i.cbct,
           'comprehensive', i.comprehensive, 'accept_extraction', i.accept_extraction, 'conditions', ${json("i.conditions")})`,
      ],
      deleted: ["i.deleted"],
      submitted_at: ["i.submitted_at"],
      source_updated_at: ["i.updated_at"],
    },
  },
  {
    entity: "payments",
    source: { from: "dispatch_payment m", id: "m.id" },
    target: {
      from: `payments t left join orders i on i.id = t.order_id left join doctors d on d.id = t.doctor_id
             left join offices o on o.id = t.office_id`,
      id: "t.legacy_payment_id",
    },
    columns: {
      order_id: ["m.instruction_id", "i.legacy_instruction_id"],
      doctor_id: ["m.doctor_id", "d.legacy_user_id"],
      office_id: ["m.office_id", "o.legacy_office_id"],
      legacy_order_id: ["m.order_id"],
      amount: ["m.total_price"],
      subtotal_amount: ["m.subtotal_price"],
      paid_amount: ["m.paid_price"],
      additional_amount: ["m.additional_price"],
      custom_amount: ["m.custom_price"],
      tax_rate: ["m.tax_rate"],
      tax_amount: ["m.tax_value"],
      used_credit: ["m.used_credit"],
      payment_status: ["case when m.canceled then 'cancelled' when m.paid or m.free then 'completed' else 'pending' end"],
      is_free: ["m.free"],
      is_canceled: ["m.canceled"],
      netsuite: ["m.netsuite"],
      installments: [json("m.installments")],
      processed_at: ["m.made_at"],
    },
  },
  {
    entity: "operations",
    source: { from: "dispatch_operation c", id: "c.id" },
    target: { from: "operations t left join payments m on m.id = t.payment_id", id: "t.legacy_operation_id" },
    columns: {
      payment_id: ["c.payment_id", "m.legacy_payment_id"],
      operation_type: ["case c.type when 1 then 'payment' when 2 then 'refund' end"],
      amount: ["c.price"],
      made_at: ["c.made_at"],
      square_order_id: ["c.sq_order_id"],
      square_payment_id: ["c.sq_payment_id"],
      square_refund_id: ["c.sq_refund_id"],
      card_brand: ["c.card_brand"],
      card_last: ["c.card_last"],
      office_card: ["c.office_card"],
      attempts: ["c.attempts"],
      metadata: [
        `jsonb_build_object('legacy_id', c.id, 'sq_order_id', c.sq_order_id, 'sq_payment_id', c.sq_payment_id,
           'sq_refund_id', c.sq_refund_id, 'card_brand', c.card_brand, 'card_last', c.card_last, 'office_card', c.office_card,
           'payment_id', c.payment_id)`,
      ],
    },
  },
  {
    entity: "purchases",
    source: { from: "dispatch_purchase u", id: "u.id" },
    target: { from: "purchases t left join products p on p.id = t.product_id", id: "t.legacy_purchase_id" },
    columns: {
      product_id: ["u.product_id", "p.legacy_product_id"],
      legacy_order_id: ["u.order_id"],
      quantity: ["u.quantity"],
      unit_price: ["u.price"],
    },
  },
  {
    entity: "order_cases",
    source: { from: "dispatch_instruction i", id: "i.id" },
    target: {
      from: "order_cases t left join orders i on i.id = t.order_id left join cases c on c.id = t.case_id",
      id: "t.legacy_instruction_id",
    },
    columns: { order_id: ["i.id", "i.legacy_instruction_id"], case_id: ["i.patient_id", "c.legacy_patient_id"] },
  },
  {
    entity: "jaws",
    source: {
      from: `dispatch_jaw j left join (
               select jaw_id, min(instruction_id) as instruction_id, min(place) as place from (
                 select upper_jaw_id as jaw_id, id as instruction_id, 'upper' as place from dispatch_instruction
                 union all select lower_jaw_id, id, 'lower' from dispatch_instruction) both_places
                where jaw_id is not null group by jaw_id) x on x.jaw_id = j.id`,
      id: "j.id",
    },
    target: {
      from: "jaws t left join orders i on i.id = t.order_id left join products p on p.id = t.product_id",
      id: "t.legacy_jaw_id",
    },
    columns: {
      order_id: ["x.instruction_id", "i.legacy_instruction_id"],
      product_id: ["j.product_id", "p.legacy_product_id"],
      jaw_type: ["x.place"],
      labial: ["j.labial"],
      bond_teeth: ["j.bond_teeth"],
      extract_teeth: ["j.extract_teeth"],
      reason_code: ["j.reason"],
    },
  },
  {
    entity: "order_states",
    source: { from: "dispatch_state x", id: "x.id" },
    target: {
      from: "order_states t left join orders i on i.id = t.order_id left join profiles p on p.id = t.changed_by",
      id: "t.legacy_state_id",
    },
    columns: {
      order_id: ["x.instruction_id", "i.legacy_instruction_id"],
      changed_by: ["x.actor_id", "p.legacy_user_id"],
      status_code: ["x.status"],
      is_active: ['x."on"'],
      changed_at: ["x.changed_at"],
    },
  },
  {
    entity: "case_states",
    source: { from: `dispatch_state x ${WITH_PATIENT}`, id: "x.id" },
    target: {
      from: "case_states t left join cases c on c.id = t.case_id left join profiles p on p.id = t.changed_by",
      id: "t.legacy_state_id",
    },
    columns: {
      case_id: ["p.id", "c.legacy_patient_id"],
      changed_by: ["x.actor_id", "p.legacy_user_id"],
      current_state: ["case x.status when 11 then 'treatment_active' when 12 then 'case_closed' end"],
      is_active: ['x."on"'],
      changed_at: ["x.changed_at"],
    },
  },
  {
    entity: "projects",
    source: { from: "dispatch_project d", id: "d.id" },
    target: { from: "projects t left join profiles p on p.id = t.creator_id", id: "t.legacy_project_id" },
    columns: {
      creator_id: ["d.creator_id", "p.legacy_user_id"],
      name: ["d.name"],
      project_type: [
        "case d.type when 0 then 'stl_upper' when 3 then 'treatment_plan' when 10 then 'simulation' when 11 then 'aligner_design' end",
      ],
      project_status: ["case d.status when 0 then 'draft' when 2 then 'completed' end"],
      file_uid: ["d.uid"],
      file_size_bytes: ["d.size"],
      is_public: ["d.public"],
      source_created_at: ["d.created_at"],
    },
  },
  {
    entity: "brackets",
    source: { from: "dispatch_bracket b", id: "b.id" },
    target: { from: "brackets t left join projects d on d.id = t.project_id", id: "t.legacy_bracket_id" },
    columns: { project_id: ["b.project_id", "d.legacy_project_id"], name: ["b.name"], bracket_type: ["b.type"] },
    application: ["material"],
  },
  {
    entity: "treatment_plans",
    source: { from: "dispatch_plan x", id: "x.id" },
    target: {
      from: "treatment_plans t left join projects d on d.id = t.project_id left join orders i on i.id = t.order_id",
      id: "t.legacy_plan_id",
    },
    columns: {
      project_id: ["x.project_id", "d.legacy_project_id"],
      order_id: ["x.instruction_id", "i.legacy_instruction_id"],
      plan_number: ["x.number"],
      plan_name: ["x.name"],
      plan_notes: ["x.notes"],
      is_original: ["x.original"],
    },
  },
  {
    entity: "files",
    source: { from: "dispatch_file x", id: "x.id" },
    target: {
      from: "files t left join orders i on i.id = t.order_id left join products p on p.id = t.product_id",
      id: "t.legacy_file_id",
    },
    columns: {
      order_id: ["x.instruction_id", "i.legacy_instruction_id"],
      product_id: ["x.product_id", "p.legacy_product_id"],
      file_uid: ["x.uid"],
      filename: ["x.name"],
      extension: ["x.ext"],
      file_size_bytes: ["x.size"],
      type_code: ["x.type"],
      status_code: ["x.status"],
      description: ["x.description"],
      parameters: [json("x.parameters")],
      uploaded_at: ["x.created_at"],
    },
  },
  {
    entity: "order_files",
    source: { from: "dispatch_file x", id: "x.id", where: "x.instruction_id is not null" },
    target: {
      from: "order_files t left join orders i on i.id = t.order_id left join files f on f.id = t.file_id",
      id: "t.legacy_file_id",
    },
    columns: { order_id: ["x.instruction_id", "i.legacy_instruction_id"], file_id: ["x.id", "f.legacy_file_id"] },
  },
  {
    entity: "case_files",
    source: { from: `dispatch_file x ${WITH_PATIENT}`, id: "x.id" },
    target: {
      from: "case_files t left join cases c on c.id = t.case_id left join files f on f.id = t.file_id",
      id: "t.legacy_file_id",
    },
    columns: { case_id: ["p.id", "c.legacy_patient_id"], file_id: ["x.id", "f.legacy_file_id"] },
  },
  {
    entity: "tasks",
    source: { from: "dispatch_task x", id: "x.id" },
    target: {
      from: `tasks t left join templates m on m.id = t.template_id left join orders i on i.id = t.order_id
             left join treatment_plans l on l.id = t.plan_id left join files f on f.id = t.file_id
             left join profiles p on p.id = t.assigned_to`,
      id: "t.legacy_task_id",
    },
    columns: {
      template_id: ["x.template_id", "m.legacy_template_id"],
      order_id: ["x.instruction_id", "i.legacy_instruction_id"],
      plan_id: ["x.plan_id", "l.legacy_plan_id"],
      file_id: ["x.file_id", "f.legacy_file_id"],
      assigned_to: ["x.actor_id", "p.legacy_user_id"],
      legacy_order_id: ["x.order_id"],
      description: ["x.text"],
      checked: ["x.checked"],
      completed_at: ["x.done_at"],
      jaw_code: ["x.jaw"],
    },
  },
];
