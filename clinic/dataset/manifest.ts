import { judgeAccess } from "./expect/access.ts";
import { judgeCatalogue } from "./expect/catalogue.ts";
import { judgeClinical } from "./expect/clinical.ts";
import { filesObserver } from "./expect/files.ts";
import { Ledger } from "./expect/ledger.ts";
import { judgeMoney } from "./expect/money.ts";
import { judgeOrders } from "./expect/orders.ts";
import { judgePatients } from "./expect/patients.ts";
import { judgePeople } from "./expect/people.ts";
import { plansObservers } from "./expect/plans.ts";
import { recordsObservers } from "./expect/records.ts";
import { workObservers } from "./expect/work.ts";
import type {
  Action,
  Bracket,
  Comment,
  File,
  LegacyRecord,
  Notification,
  Plan,
  Project,
  Surroundings,
  Task,
} from "./large-rows.ts";

/** What a correct sync must make of the generated data, worked out here from clinic/domain.md, apart from the pipeline. */
export interface Manifest {
  readonly seed: number;
  readonly scale: number;
  readonly logScale: number;
  /** Rows per legacy table. */
  readonly tables: Readonly<Record<string, number>>;
  readonly entities: Readonly<Record<string, EntityExpectation>>;
}

export interface EntityExpectation {
  /** Records of the entity on the source, without those that its predicate waives. */
  readonly eligible: number;
  readonly landed: number;
  /** Rows that a named predicate leaves out. */
  readonly waived: { readonly rule: string; readonly count: number } | null;
  /** Records that must not land, each with its reason. */
  readonly exceptions: readonly Exception[];
  /** Sums over landed records, exact, by target column. */
  readonly money: Readonly<Record<string, string>>;
  /** Target values of dirty records that must land, by legacy id. */
  readonly golden: Golden;
}

/** Target values as text, by legacy id and column. */
export type Golden = Readonly<Record<string, Readonly<Record<string, string | null>>>>;

export type Exception =
  | {
      readonly entity: string;
      readonly legacyId: number;
      readonly outcome: "open";
      readonly type: "business_rule_violation" | "foreign_key_violation";
      /** null where the target's own check refuses the row. */
      readonly field: string | null;
      readonly reason: Trouble | "check";
    }
  | {
      readonly entity: string;
      readonly legacyId: number;
      readonly outcome: "waiting";
      readonly type: "foreign_key_violation";
      readonly reason: "parent_missing";
      readonly field: string;
      readonly parent: string;
      readonly parentId: number;
    };

/** What is wrong with a record itself. */
export type Trouble = "unknown_code" | "value_missing" | "reference_missing" | "one_order";

/** They see the rows of the large tables as these are made. */
export interface LargeObservers {
  readonly project: (row: Project) => void;
  readonly bracket: (row: Bracket) => void;
  readonly plan: (row: Plan) => void;
  readonly record: (row: LegacyRecord) => void;
  readonly file: (row: File) => void;
  readonly comment: (row: Comment) => void;
  readonly notification: (row: Notification) => void;
  readonly task: (row: Task) => void;
  readonly action: (row: Action) => void;
}

/** Judges everything that is in memory at once; the observers judge the rest while it passes. */
export function openManifest({ clinic, types }: Pick<Surroundings, "clinic" | "types">): {
  readonly observers: LargeObservers;
  /** The result, once every row has passed. */
  readonly entities: () => Record<string, EntityExpectation>;
} {
  const ledger = new Ledger();
  judgePeople(ledger, clinic);
  judgePatients(ledger, clinic);
  judgeAccess(ledger, clinic, types);
  judgeCatalogue(ledger, clinic);
  judgeOrders(ledger, clinic);
  judgeMoney(ledger, clinic);
  judgeClinical(ledger, clinic);
  const ways = { orderOfPlan: new Map<number, number>(), patientOf: patientsOfInstructions(clinic.instructions) };
  return {
    observers: {
      ...plansObservers(ledger, ways),
      ...recordsObservers(ledger, types, ways),
      ...filesObserver(ledger, ways),
      ...workObservers(ledger, types),
    },
    entities: () => ledger.result(),
  };
}

/** From a plan to its order, and from there to the patient, whose case it is. */
export interface Ways {
  readonly orderOfPlan: Map<number, number>;
  readonly patientOf: ReadonlyMap<number, number>;
}

function patientsOfInstructions(instructions: readonly { readonly id: number; readonly patient: number }[]): Map<number, number> {
  return new Map(instructions.map(({ id, patient }) => [id, patient]));
}
