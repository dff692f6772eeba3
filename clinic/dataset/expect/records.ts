import type { ContentTypes } from "../content-types.ts";
import type { Comment, LegacyRecord } from "../large-rows.ts";
import type { LargeObservers, Ways } from "../manifest.ts";
import type { Kind, Ledger } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;

export function recordsObservers(ledger: Ledger, types: ContentTypes, ways: Ways): Pick<LargeObservers, "record" | "comment"> {
  const [message, communication] = openMessages(ledger, types);
  const comment = openComments(ledger, ways);
  return {
    record: (row) => {
      message(row);
      communication(row);
    },
    comment: (row) => {
      for (const judge of comment) judge(row);
    },
  };
}

/** A record is a message to whom it is addressed to, and to a team as well if it names a group. */
function openMessages(ledger: Ledger, types: ContentTypes) {
  const recipient = (row: LegacyRecord) => types.nameOf(row.targetType);
  const message = ledger.open<LegacyRecord>("messages", {
    id,
    trouble: (row) =>
      recipient(row) === "dispatch.patient" || recipient(row) === "auth.user" ? null : ["recipient_type", "unknown_code"],
    parents: [
      ["sender_id", "profiles", (row) => row.author],
      ["recipient_patient_id", "patients", (row) => (recipient(row) === "dispatch.patient" ? row.target : null)],
      ["recipient_profile_id", "profiles", (row) => (recipient(row) === "auth.user" ? row.target : null)],
      ["team_id", "teams", (row) => row.group],
    ],
    golden: [
      [(row) => recipient(row) === "dispatch.patient", () => ({ recipient_type: "patient", recipient_profile_id: null })],
      [(row) => recipient(row) === "auth.user", () => ({ recipient_type: "profile", recipient_patient_id: null })],
      [(row) => row.author === null, () => ({ sender_id: null })],
      [(row) => row.type === 99, () => ({ type_code: "99" })],
      [(row) => row.type === 3, () => ({ type_code: "3" })],
      [(row) => row.text === "", () => ({ content: "" })],
      [(row) => row.text.includes("\t"), (row) => ({ content: row.text })],
      [(row) => row.public === null, () => ({ is_public: null })],
    ],
  });
  const communication = ledger.open<LegacyRecord>("team_communications", {
    id,
    predicate: { rule: "team_addressed@1", holds: (row) => row.group !== null },
    parents: [
      ["team_id", "teams", (row) => row.group],
      ["author_id", "profiles", (row) => row.author],
    ],
    golden: [
      // It reaches its team, although it is no message to anybody.
      [(row) => row.targetType === null, (row) => ({ body: row.text })],
      [(row) => row.public === null, () => ({ is_public: null })],
      [(row) => row.author === null, () => ({ author_id: null })],
    ],
  });
  return [message, communication] as const;
}

const text = (column: string): readonly Kind<Comment>[] => [
  [(row) => row.text === null, () => ({ [column]: null })],
  [(row) => row.text === "", () => ({ [column]: "" })],
  [(row) => row.text === "  ", () => ({ [column]: "  " })],
  [(row) => row.text?.includes("\t") === true, (row) => ({ [column]: row.text })],
];

/** A comment is one itself, one on a plan, and one in the case of the plan's patient. */
function openComments(ledger: Ledger, { orderOfPlan, patientOf }: Ways) {
  const patient = (plan: number) => patientOf.get(orderOfPlan.get(plan) ?? 0) ?? null;
  return [
    ledger.open<Comment>("comments", {
      id,
      parents: [["author_id", "profiles", (row) => row.author]],
      golden: [...text("content"), [(row) => row.author === null, () => ({ author_id: null })]],
    }),
    ledger.open<Comment>("treatment_discussions", {
      id,
      parents: [
        ["comment_id", "comments", id],
        ["treatment_plan_id", "treatment_plans", (row) => row.plan],
      ],
    }),
    ledger.open<Comment>("case_messages", {
      id,
      parents: [
        ["case_id", "cases", (row) => patient(row.plan)],
        ["sender_id", "profiles", (row) => row.author],
      ],
      golden: [...text("content"), [(row) => row.author === null, () => ({ sender_id: null })]],
    }),
  ];
}
