import { json, modelOf, type Recomputed } from "./recompute.ts";

const COMMENT_PATIENT =
  "join dispatch_plan l on l.id = x.plan_id join dispatch_instruction i on i.id = l.instruction_id join dispatch_patient p on p.id = i.patient_id";

export const communication: readonly Recomputed[] = [
  {
    entity: "messages",
    source: { from: "dispatch_record x left join django_content_type c on c.id = x.target_type_id", id: "x.id" },
    target: {
      from: `messages t left join profiles s on s.id = t.sender_id left join patients p on p.id = t.recipient_patient_id
             left join profiles r on r.id = t.recipient_profile_id left join teams g on g.id = t.team_id`,
      id: "t.legacy_record_id",
    },
    columns: {
      sender_id: ["x.author_id", "s.legacy_user_id"],
      recipient_type: [
        "case when (c.app_label, c.model) = ('dispatch', 'patient') then 'patient' when (c.app_label, c.model) = ('auth', 'user') then 'profile' end",
      ],
      recipient_patient_id: [
        "case when (c.app_label, c.model) = ('dispatch', 'patient') then x.target_id end",
        "p.legacy_patient_id",
      ],
      recipient_profile_id: ["case when (c.app_label, c.model) = ('auth', 'user') then x.target_id end", "r.legacy_user_id"],
      team_id: ["x.group_id", "g.legacy_group_id"],
      type_code: ["x.type"],
      content: ["x.text"],
      is_public: ["x.public"],
      sent_at: ["x.created_at"],
    },
    application: ["is_read"],
  },
  {
    entity: "team_communications",
    source: { from: "dispatch_record x", id: "x.id", where: "x.group_id is not null" },
    target: {
      from: "team_communications t left join teams g on g.id = t.team_id left join profiles s on s.id = t.author_id",
      id: "t.legacy_record_id",
    },
    columns: {
      team_id: ["x.group_id", "g.legacy_group_id"],
      author_id: ["x.author_id", "s.legacy_user_id"],
      type_code: ["x.type"],
      body: ["x.text"],
      is_public: ["x.public"],
      sent_at: ["x.created_at"],
    },
  },
  {
    entity: "message_attachments",
    source: { from: "dispatch_file x", id: "x.id", where: "x.record_id is not null" },
    target: {
      from: "message_attachments t left join messages m on m.id = t.message_id left join files f on f.id = t.file_id",
      id: "t.legacy_file_id",
    },
    columns: { message_id: ["x.record_id", "m.legacy_record_id"], file_id: ["x.id", "f.legacy_file_id"] },
  },
  {
    entity: "comments",
    source: { from: "dispatch_comment x", id: "x.id" },
    target: { from: "comments t left join profiles s on s.id = t.author_id", id: "t.legacy_comment_id" },
    columns: { author_id: ["x.author_id", "s.legacy_user_id"], content: ["x.text"], commented_at: ["x.created_at"] },
  },
  {
    entity: "treatment_discussions",
    source: { from: "dispatch_comment x", id: "x.id" },
    target: {
      from: `treatment_discussions t left join comments c on c.id = t.comment_id
             left join treatment_plans l on l.id = t.treatment_plan_id`,
      id: "t.legacy_comment_id",
    },
    columns: { comment_id: ["x.id", "c.legacy_comment_id"], treatment_plan_id: ["x.plan_id", "l.legacy_plan_id"] },
  },
  {
    entity: "case_messages",
    source: { from: `dispatch_comment x ${COMMENT_PATIENT}`, id: "x.id" },
    target: {
      from: "case_messages t left join cases c on c.id = t.case_id left join profiles s on s.id = t.sender_id",
      id: "t.legacy_comment_id",
    },
    columns: {
      case_id: ["p.id", "c.legacy_patient_id"],
      sender_id: ["x.author_id", "s.legacy_user_id"],
      content: ["x.text"],
      sent_at: ["x.created_at"],
    },
    application: ["is_urgent"],
  },
  {
    entity: "doctor_notes",
    source: { from: "dispatch_note x", id: "x.id" },
    target: {
      from: "doctor_notes t left join doctors d on d.id = t.doctor_id left join profiles s on s.id = t.author_id",
      id: "t.legacy_note_id",
    },
    columns: {
      doctor_id: ["x.doctor_id", "d.legacy_user_id"],
      author_id: ["x.author_id", "s.legacy_user_id"],
      content: ["x.text"],
      noted_at: ["x.created_at"],
    },
  },
  {
    entity: "system_messages",
    source: {
      from: "dispatch_notification x left join django_content_type c on c.id = x.item_type_id",
      id: "x.id",
      where: "x.sent and x.send",
    },
    target: {
      from: `system_messages t left join profiles s on s.id = t.recipient_id left join orders i on i.id = t.order_id
             left join patients p on p.id = t.patient_id`,
      id: "t.legacy_notification_id",
    },
    columns: {
      recipient_id: ["x.recipient_id", "s.legacy_user_id"],
      order_id: ["case when (c.app_label, c.model) = ('dispatch', 'instruction') then x.item_id end", "i.legacy_instruction_id"],
      patient_id: ["case when (c.app_label, c.model) = ('dispatch', 'patient') then x.item_id end", "p.legacy_patient_id"],
      item_type: ["c.app_label || '.' || c.model"],
      legacy_item_id: ["x.item_id"],
      sender: ["x.sender"],
      message_code: ["x.template_name"],
      message_data: [json("x.template_context")],
      is_read: ["x.read"],
      notified_at: ["x.created_at"],
    },
  },
  {
    entity: "user_actions",
    source: { from: "dispatch_action x", id: "x.id" },
    target: { from: "user_actions t left join profiles s on s.id = t.user_id", id: "t.legacy_action_id" },
    columns: {
      user_id: ["x.user_id", "s.legacy_user_id"],
      action: ["x.action"],
      acted_at: ['x."date"'],
      item_type: [modelOf("x.item_type_id")],
      legacy_item_id: ["x.item_id"],
      owner_type: [modelOf("x.owner_type_id")],
      legacy_owner_id: ["x.owner_id"],
      action_data: ["x.data"],
    },
  },
];
