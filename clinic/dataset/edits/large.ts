import { change, someInstruction, type Edit } from "./edit.ts";

/** Changes of the large tables: what makes a record of a row, or unmakes it, flips without a trace. */
export function largeEdits(seed: number, count: number): Edit[] {
  const update = (table: string, share: number, set: string, where?: string) => change(seed, table, count * share, set, where);
  const support = "(select id from public.auth_group where name = 'Support')";
  return [
    update("dispatch_project", 0.01, "name = coalesce(name, '') || ' (edited)'"),
    update("dispatch_bracket", 0.01, "name = coalesce(name, '') || ' (edited)'"),
    update("dispatch_plan", 0.01, "number = coalesce(number, 0) + 1"),
    update("dispatch_plan", 0.01, `instruction_id = ${someInstruction(seed, "t.id")}`),
    update("dispatch_record", 0.01, "text = text || ' (edited)'"),
    update("dispatch_record", 0.005, `group_id = ${support}`, "group_id is null"),
    update("dispatch_record", 0.005, "group_id = null", "group_id is not null"),
    update("dispatch_file", 0.01, "description = coalesce(description, '') || 'edited'"),
    update("dispatch_file", 0.005, `instruction_id = ${someInstruction(seed, "t.id")}`, "instruction_id is null"),
    update("dispatch_file", 0.005, "instruction_id = null", "instruction_id is not null"),
    update("dispatch_comment", 0.01, "text = coalesce(text, '') || ' (edited)'"),
    update("dispatch_notification", 0.02, "read = not read", "sent and send"),
    update("dispatch_notification", 0.01, "sent = true, send = true", "not (sent and send)"),
    update("dispatch_notification", 0.01, "sent = false", "sent and send"),
    update("dispatch_task", 0.02, "checked = not checked"),
    update("dispatch_action", 0.01, "data = 'edited'"),
  ];
}
