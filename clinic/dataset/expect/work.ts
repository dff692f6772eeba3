import type { ContentTypes } from "../content-types.ts";
import type { Action, Notification, Task } from "../large-rows.ts";
import type { LargeObservers } from "../manifest.ts";
import { NOT_JSON, unparseable } from "./json.ts";
import type { Ledger } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;
const textOf = (value: number | null) => (value === null ? null : String(value));

/** What the old application told people, gave them to do, and wrote down about them. */
export function workObservers(ledger: Ledger, types: ContentTypes): Pick<LargeObservers, "notification" | "task" | "action"> {
  return { notification: openNotifications(ledger, types), task: openTasks(ledger), action: openActions(ledger, types) };
}

function openNotifications(ledger: Ledger, types: ContentTypes): (row: Notification) => void {
  const item = (row: Notification) => types.nameOf(row.itemType);
  const as = (context: string | null, data: string | null) =>
    [(row: Notification) => row.context === context, () => ({ message_data: data })] as const;
  return ledger.open<Notification>("system_messages", {
    id,
    predicate: { rule: "sendable@1", holds: (row) => row.sent && row.send },
    parents: [
      ["recipient_id", "profiles", (row) => row.recipient],
      ["order_id", "orders", (row) => (item(row) === "dispatch.instruction" ? row.item : null)],
      ["patient_id", "patients", (row) => (item(row) === "dispatch.patient" ? row.item : null)],
    ],
    golden: [
      as("", null),
      as(null, null),
      as("[]", "[]"),
      as("{'broken", unparseable("{'broken")),
      as(NOT_JSON.nul, unparseable(NOT_JSON.nul)),
      [(row) => row.recipient === null, () => ({ recipient_id: null })],
      [
        (row) => item(row) === "dispatch.instruction" && row.item !== null,
        (row) => ({ item_type: "dispatch.instruction", legacy_item_id: textOf(row.item), patient_id: null }),
      ],
      [
        (row) => item(row) === "dispatch.instruction" && row.item === null,
        () => ({ item_type: "dispatch.instruction", legacy_item_id: null, order_id: null }),
      ],
      [
        (row) => item(row) === "dispatch.patient",
        (row) => ({ item_type: "dispatch.patient", legacy_item_id: textOf(row.item), order_id: null }),
      ],
      ...["retired_app.vanished", "retired_app.patient", "dispatch.plan"].map(
        (model) =>
          [
            (row: Notification) => item(row) === model,
            (row: Notification) => ({
              item_type: model,
              legacy_item_id: textOf(row.item),
              order_id: null,
              patient_id: null,
            }),
          ] as const,
      ),
      [(row) => row.itemType === null && row.item !== null, () => ({ item_type: null, legacy_item_id: "7", order_id: null })],
      [(row) => row.itemType === null && row.item === null, () => ({ item_type: null, legacy_item_id: null })],
      [(row) => row.template === null, () => ({ message_code: null, sender: null })],
      [(row) => row.read, () => ({ is_read: "true" })],
    ],
  });
}

function openTasks(ledger: Ledger): (row: Task) => void {
  return ledger.open<Task>("tasks", {
    id,
    parents: [
      ["template_id", "templates", (row) => row.template],
      ["order_id", "orders", (row) => row.instruction],
      ["plan_id", "treatment_plans", (row) => row.plan],
      ["file_id", "files", (row) => row.file],
      ["assigned_to", "profiles", (row) => row.actor],
    ],
    golden: [
      [
        (row) => row.instruction === null && row.order !== null,
        (row) => ({ order_id: null, legacy_order_id: textOf(row.order) }),
      ],
      [(row) => row.instruction !== null && row.order !== null, (row) => ({ legacy_order_id: textOf(row.order) })],
      [(row) => row.instruction === null && row.order === null, () => ({ order_id: null, legacy_order_id: null })],
      [(row) => row.actor === null, () => ({ assigned_to: null })],
      [(row) => row.checked && row.done === null, () => ({ checked: "true", completed_at: null })],
      [(row) => row.jaw === 9, () => ({ jaw_code: "9" })],
      [(row) => row.text === "", () => ({ description: "" })],
      [(row) => row.text?.includes("\t") === true, (row) => ({ description: row.text })],
    ],
  });
}

function openActions(ledger: Ledger, types: ContentTypes): (row: Action) => void {
  const owner = (row: Action) => types.nameOf(row.ownerType);
  const item = (row: Action) => types.nameOf(row.itemType);
  return ledger.open<Action>("user_actions", {
    id,
    parents: [["user_id", "profiles", (row) => row.user]],
    golden: [
      [(row) => row.user === null, () => ({ user_id: null })],
      [(row) => item(row) === "retired_app.vanished", (row) => ({ item_type: item(row), legacy_item_id: textOf(row.item) })],
      [(row) => item(row) === "dispatch.patient", (row) => ({ item_type: item(row), legacy_item_id: textOf(row.item) })],
      [(row) => row.itemType === null && row.item === null, () => ({ item_type: null, legacy_item_id: null })],
      [(row) => row.itemType === null && row.item !== null, (row) => ({ item_type: null, legacy_item_id: textOf(row.item) })],
      [(row) => row.itemType !== null && row.item === null, (row) => ({ item_type: item(row), legacy_item_id: null })],
      [(row) => row.ownerType === null, () => ({ owner_type: null, legacy_owner_id: null })],
      [(row) => owner(row) === "retired_app.patient", () => ({ owner_type: "retired_app.patient", legacy_owner_id: "1" })],
      [(row) => owner(row) === "auth.user", (row) => ({ owner_type: "auth.user", legacy_owner_id: textOf(row.owner) })],
      [(row) => row.data?.includes("\t") === true, (row) => ({ action_data: row.data })],
      [(row) => row.action === "", () => ({ action: "" })],
    ],
  });
}
