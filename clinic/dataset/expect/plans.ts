import type { Bracket, Plan, Project } from "../large-rows.ts";
import type { LargeObservers, Ways } from "../manifest.ts";
import type { Ledger } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;
const PROJECT_TYPES: Readonly<Record<number, string>> = {
  0: "stl_upper",
  3: "treatment_plan",
  10: "simulation",
  11: "aligner_design",
};
const PROJECT_STATUSES: Readonly<Record<number, string>> = { 0: "draft", 2: "completed" };

export function plansObservers(ledger: Ledger, { orderOfPlan }: Ways): Pick<LargeObservers, "project" | "bracket" | "plan"> {
  const project = openProjects(ledger);
  const plan = openPlans(ledger);
  return {
    project,
    bracket: ledger.open<Bracket>("brackets", {
      id,
      parents: [["project_id", "projects", (row) => row.project]],
      golden: [
        [(row) => row.project === null, () => ({ project_id: null })],
        [(row) => row.name === null, () => ({ name: null })],
        [(row) => row.name === "", () => ({ name: "" })],
        [(row) => row.type === null, () => ({ bracket_type: null })],
      ],
    }),
    plan: (row) => {
      orderOfPlan.set(row.id, row.instruction);
      plan(row);
    },
  };
}

function openProjects(ledger: Ledger): (row: Project) => void {
  return ledger.open<Project>("projects", {
    id,
    trouble: (row) => {
      if (PROJECT_TYPES[row.type] === undefined) return ["project_type", "unknown_code"];
      return PROJECT_STATUSES[row.status] === undefined ? ["project_status", "unknown_code"] : null;
    },
    parents: [["creator_id", "profiles", (row) => row.creator]],
    golden: [
      ...[0, 3, 10, 11].map(
        (type) => [(row: Project) => row.type === type, () => ({ project_type: PROJECT_TYPES[type] ?? null })] as const,
      ),
      [(row) => row.status === 2, () => ({ project_status: "completed" })],
      [(row) => row.status === 0, () => ({ project_status: "draft" })],
      [(row) => row.creator === null, () => ({ creator_id: null })],
      [(row) => row.name === null, () => ({ name: null })],
      [(row) => row.name?.includes("\t") === true, (row) => ({ name: row.name })],
      [(row) => row.size === null, () => ({ file_size_bytes: null })],
      [(row) => row.size === 9_000_000_000, () => ({ file_size_bytes: "9000000000" })],
      [(row) => row.uid === "", () => ({ file_uid: "" })],
    ],
  });
}

function openPlans(ledger: Ledger): (row: Plan) => void {
  return ledger.open<Plan>("treatment_plans", {
    id,
    parents: [
      ["project_id", "projects", (row) => row.project],
      ["order_id", "orders", (row) => row.instruction],
    ],
    golden: [
      [(row) => row.name === "", () => ({ plan_name: "" })],
      [(row) => row.name === "  ", () => ({ plan_name: "  " })],
      [(row) => row.number === null, () => ({ plan_number: null })],
      [(row) => row.notes === null, () => ({ plan_notes: null })],
      [(row) => row.notes?.includes("\t") === true, (row) => ({ plan_notes: row.notes })],
      [(row) => row.original, () => ({ is_original: "true" })],
    ],
  });
}
