import { json, modelOf, records, type Projection } from "./projection.ts";

export const PLANS: readonly Projection[] = [
  {
    entity: "projects",
    records: records({
      from: "dispatch_project",
      field: `case when type not in (0, 3, 10, 11) then 'project_type' when status not in (0, 2) then 'project_status' end`,
      refs: ["creator_id"],
      v: "name, type, status, uid, size, public, created_at",
    }),
    parents: [["creator_id", "profiles"]],
  },
  {
    entity: "brackets",
    records: records({ from: "dispatch_bracket", refs: ["project_id"], v: "name, type" }),
    parents: [["project_id", "projects"]],
  },
  {
    entity: "treatment_plans",
    records: records({
      from: "dispatch_plan",
      refs: ["project_id", "instruction_id"],
      v: "number, name, notes, original",
    }),
    parents: [
      ["project_id", "projects"],
      ["order_id", "orders"],
    ],
  },
];

const RECIPIENT = modelOf("r.target_type_id");

export const MESSAGES: readonly Projection[] = [
  {
    entity: "messages",
    records: records({
      from: "dispatch_record r",
      id: "r.id",
      field: `case when ${RECIPIENT} in ('dispatch.patient', 'auth.user') then null else 'recipient_type' end`,
      refs: [
        "r.author_id",
        `case when ${RECIPIENT} = 'dispatch.patient' then r.target_id end`,
        `case when ${RECIPIENT} = 'auth.user' then r.target_id end`,
        "r.group_id",
      ],
      v: "r.type, r.text, r.public, r.created_at",
    }),
    parents: [
      ["sender_id", "profiles"],
      ["recipient_patient_id", "patients"],
      ["recipient_profile_id", "profiles"],
      ["team_id", "teams"],
    ],
  },
  {
    entity: "team_communications",
    records: records({
      from: "dispatch_record",
      refs: ["group_id", "author_id"],
      v: "type, text, public, created_at",
      where: "group_id is not null",
    }),
    parents: [
      ["team_id", "teams"],
      ["author_id", "profiles"],
    ],
    waived: { rule: "team_addressed@1", rows: "dispatch_record where group_id is null" },
  },
  {
    entity: "comments",
    records: records({ from: "dispatch_comment", refs: ["author_id"], v: "text, created_at" }),
    parents: [["author_id", "profiles"]],
  },
  {
    entity: "treatment_discussions",
    records: records({ from: "dispatch_comment", refs: ["id", "plan_id"] }),
    parents: [
      ["comment_id", "comments"],
      ["treatment_plan_id", "treatment_plans"],
    ],
  },
  {
    entity: "case_messages",
    records: records({
      from: "dispatch_comment c join dispatch_plan l on l.id = c.plan_id join dispatch_instruction i on i.id = l.instruction_id",
      id: "c.id",
      refs: ["i.patient_id", "c.author_id"],
      v: "c.text, c.created_at",
    }),
    parents: [
      ["case_id", "cases"],
      ["sender_id", "profiles"],
    ],
  },
];

const ordered = { rule: "ordered@1", rows: "dispatch_file where instruction_id is null" };

export const FILES: readonly Projection[] = [
  {
    entity: "files",
    records: records({
      from: "dispatch_file",
      refs: ["instruction_id", "product_id"],
      v: `uid, name, ext, size, type, status, description, ${json("parameters")}, created_at`,
    }),
    parents: [
      ["order_id", "orders"],
      ["product_id", "products"],
    ],
  },
  {
    entity: "order_files",
    records: records({ from: "dispatch_file", refs: ["instruction_id", "id"], where: "instruction_id is not null" }),
    parents: [
      ["order_id", "orders"],
      ["file_id", "files"],
    ],
    waived: ordered,
  },
  {
    entity: "case_files",
    records: records({
      from: "dispatch_file f join dispatch_instruction i on i.id = f.instruction_id",
      id: "f.id",
      refs: ["i.patient_id", "f.id"],
    }),
    parents: [
      ["case_id", "cases"],
      ["file_id", "files"],
    ],
    waived: ordered,
  },
  {
    entity: "message_attachments",
    records: records({ from: "dispatch_file", refs: ["record_id", "id"], where: "record_id is not null" }),
    parents: [
      ["message_id", "messages"],
      ["file_id", "files"],
    ],
    waived: { rule: "attached@1", rows: "dispatch_file where record_id is null" },
  },
];

export const LOGS: readonly Projection[] = [
  {
    entity: "system_messages",
    records: records({
      from: "dispatch_notification n left join django_content_type t on t.id = n.item_type_id",
      id: "n.id",
      refs: [
        "n.recipient_id",
        "case when t.app_label = 'dispatch' and t.model = 'instruction' then n.item_id end",
        "case when t.app_label = 'dispatch' and t.model = 'patient' then n.item_id end",
      ],
      v: `t.app_label, t.model, n.item_id, n.sender, n.template_name, ${json("n.template_context")}, n.read, n.created_at`,
      where: "n.sent and n.send",
    }),
    parents: [
      ["recipient_id", "profiles"],
      ["order_id", "orders"],
      ["patient_id", "patients"],
    ],
    waived: { rule: "sendable@1", rows: "dispatch_notification where not (sent and send)" },
  },
  {
    entity: "tasks",
    records: records({
      from: "dispatch_task",
      refs: ["template_id", "instruction_id", "plan_id", "file_id", "actor_id"],
      v: "order_id, text, checked, done_at, jaw",
    }),
    parents: [
      ["template_id", "templates"],
      ["order_id", "orders"],
      ["plan_id", "treatment_plans"],
      ["file_id", "files"],
      ["assigned_to", "profiles"],
    ],
  },
  {
    entity: "user_actions",
    records: records({
      from: "dispatch_action a",
      id: "a.id",
      refs: ["a.user_id"],
      v: `a.action, a.date, ${modelOf("a.item_type_id")}, a.item_id, ${modelOf("a.owner_type_id")}, a.owner_id, a.data`,
    }),
    parents: [["user_id", "profiles"]],
  },
];
