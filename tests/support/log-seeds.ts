import type { Seeds } from "./legacy-seeds.ts";

type Values = Parameters<Seeds["row"]>[1];
type Insert = (id: number, values?: Values) => Promise<void>;

const AT = "2021-03-04T05:06:07Z";
/** What a row has where a test has nothing to say about it. */
const DEFAULTS = {
  jaw: { bond_teeth: "0000000000000001", extract_teeth: "0000000000000000", labial: false },
  project: { uid: "p", created_at: AT, public: false, type: 3, status: 0 },
  plan: { name: "Plan", original: true },
  state: { status: 11, on: true, changed_at: AT },
  record: { type: 3, created_at: AT, text: "text" },
  file: { uid: "f", size: 5, type: 1, status: 0, parameters: "{}", created_at: AT },
  comment: { created_at: AT, text: "text" },
  note: { created_at: AT, text: "text" },
  notification: { created_at: AT, read: false, sent: true, send: true },
  task: { checked: false, jaw: 0 },
  action: { action: "update", date: AT },
} satisfies Record<string, Values>;

/** Inserts rows of the tables that hang on orders, under the defaults above. */
export function logSeeds(seed: Seeds): Readonly<Record<keyof typeof DEFAULTS, Insert>> {
  const insert = (table: string, defaults: Values): Insert => {
    return (id, values = {}) => seed.row(`dispatch_${table}`, { id, ...defaults, ...values });
  };
  const inserts = Object.entries(DEFAULTS).map(([table, defaults]) => [table, insert(table, defaults)] as const);
  return Object.fromEntries(inserts) as Record<keyof typeof DEFAULTS, Insert>;
}

/** Content types have other ids in every installation; these are none of the old application's. */
export const TYPES = { patient: 901, user: 902, instruction: 903, vanished: 904, otherPatient: 905 };

export async function seedContentTypes(seed: Seeds): Promise<void> {
  const rows = [
    [TYPES.patient, "dispatch", "patient"],
    [TYPES.user, "auth", "user"],
    [TYPES.instruction, "dispatch", "instruction"],
    [TYPES.vanished, "retired_app", "vanished"],
    [TYPES.otherPatient, "retired_app", "patient"],
  ] as const;
  for (const [id, app_label, model] of rows) await seed.row("django_content_type", { id, app_label, model });
}
