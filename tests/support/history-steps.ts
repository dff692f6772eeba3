import fc from "fast-check";
import type { Table } from "./legacy-model.ts";

/**
 * How a legacy write sets updated_at: as it should, in the same moment as the last one, not at all, to nothing, or by
 * a clock that went back, is some seconds ahead, or years.
 */
export type Stamp = "now" | "the same" | "bypass" | "null" | "past" | "ahead" | "future";

/** One step of a history. A step that makes no sense where it stands does nothing. */
export type Step =
  | {
      readonly do: "begin" | "savepoint" | "rollback to" | "release" | "commit" | "rollback" | "prepare";
      readonly session: number;
    }
  | { readonly do: "commit prepared" | "rollback prepared"; readonly nth: number }
  | {
      readonly do: "insert" | "update";
      readonly session: number;
      readonly table: Table;
      readonly key: number;
      readonly office: number;
      readonly stamp: Stamp;
    }
  | { readonly do: "delete"; readonly session: number; readonly table: Table; readonly key: number }
  | { readonly do: "vacuum"; readonly how: "" | "full" | "freeze"; readonly table: Table }
  | { readonly do: "start"; readonly entities: readonly string[]; readonly node: Node }
  | { readonly do: "page"; readonly nth: number; readonly node: Node }
  | { readonly do: "page again"; readonly nth: number }
  | { readonly do: "drain" }
  | { readonly do: "ask"; readonly table: Table; readonly keys: readonly number[] }
  | { readonly do: "second chain"; readonly table: Table; readonly keys: readonly number[] }
  | { readonly do: "hold"; readonly nth: number; readonly statements: number }
  | { readonly do: "open" }
  | { readonly do: "pause" | "resume" };

/** Which node is read, where an address serves both. */
export type Node = "standby" | "primary";

export interface History {
  /** Whether what is there at the beginning lands before the first step. */
  readonly landed: boolean;
  readonly steps: readonly Step[];
  /** Whether what is open in the end is committed, session by session, then prepared transactions. */
  readonly ends: readonly boolean[];
}

export const SESSIONS = 3;
export const KEYS = [1, 2, 3, 4, 5] as const;
const ENTITIES = [["offices"], ["patients"], ["offices", "patients"]] as const;

type Weighted<T> = readonly [weight: number, arbitrary: fc.Arbitrary<T>];

const session = fc.nat({ max: SESSIONS - 1 });
const table = fc.constantFrom<Table>("office", "patient", "patient");
const key = fc.constantFrom(...KEYS);
const keys = fc.uniqueArray(key, { minLength: 1, maxLength: 3 });
const nth = fc.nat({ max: 7 });
const stamp = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Stamp>("now") },
  { weight: 4, arbitrary: fc.constantFrom<Stamp>("the same", "bypass") },
  { weight: 2, arbitrary: fc.constantFrom<Stamp>("null", "past", "ahead", "future") },
);
const node = fc.constantFrom<Node>("standby", "standby", "primary");
const write = { session, table, key, office: fc.nat({ max: KEYS.length }), stamp };

const of = <Name extends Step["do"], Rest extends object>(name: Name, rest: fc.Arbitrary<Rest>) =>
  rest.map((fields) => ({ do: name, ...fields }));
const LEGACY: readonly Weighted<Step>[] = [
  [6, of("begin", fc.record({ session }))],
  [6, of("insert", fc.record(write))],
  [12, of("update", fc.record(write))],
  [6, of("delete", fc.record({ session, table, key }))],
  [3, of("savepoint", fc.record({ session }))],
  [2, of("rollback to", fc.record({ session }))],
  [1, of("release", fc.record({ session }))],
  [4, of("commit", fc.record({ session }))],
  [2, of("rollback", fc.record({ session }))],
  [2, of("prepare", fc.record({ session }))],
  [2, of("commit prepared", fc.record({ nth }))],
  [1, of("rollback prepared", fc.record({ nth }))],
  [1, of("vacuum", fc.record({ how: fc.constantFrom("", "full", "freeze"), table }))],
];
const SYNC: readonly Weighted<Step>[] = [
  [5, of("start", fc.record({ entities: fc.constantFrom(...ENTITIES), node }))],
  [10, of("page", fc.record({ nth, node }))],
  [2, of("page again", fc.record({ nth }))],
  [3, fc.constant({ do: "drain" })],
  [2, of("ask", fc.record({ table, keys }))],
  [3, of("second chain", fc.record({ table, keys }))],
];
const HELD: readonly Weighted<Step>[] = [
  [3, of("hold", fc.record({ nth, statements: fc.nat({ max: 8 }) }))],
  [2, fc.constant({ do: "open" })],
];
const LAG: readonly Weighted<Step>[] = [
  [3, fc.constant({ do: "pause" })],
  [2, fc.constant({ do: "resume" })],
];

/** Two chains over one record: a page of the first is held somewhere, the record changes, the second reads it. */
const race: fc.Arbitrary<Step[]> = fc
  .record({ session, table, key, statements: fc.nat({ max: 8 }) })
  .map(({ session, table, key, statements }): Step[] => {
    const change = { do: "update", session, table, key, office: 0, stamp: "now" } as const;
    return [
      { do: "drain" },
      change,
      { do: "start", entities: [`${table}s`], node: "standby" },
      { do: "second chain", table, keys: [key] },
      { do: "hold", nth: 0, statements },
      change,
      { do: "page", nth: 0, node: "standby" },
      { do: "open" },
    ];
  });

/** A record is written again between the plan of an execution and its page. */
const neverRests: fc.Arbitrary<Step[]> = fc.record({ session, table, key }).map(({ session, table, key }): Step[] => {
  const change = { do: "update", session, table, key, office: 0, stamp: "now" } as const;
  return [{ do: "drain" }, change, { do: "start", entities: [`${table}s`], node: "standby" }, change, { do: "drain" }];
});

/** A record is gone when its page looks for it, and back before it would be deleted. */
const comesBack: fc.Arbitrary<Step[]> = fc
  .record({ session, key, pages: fc.integer({ min: 1, max: 3 }) })
  .map(({ session, key, pages }): Step[] => [
    { do: "drain" },
    { do: "delete", session, table: "patient", key },
    { do: "ask", table: "patient", keys: [key] },
    { do: "start", entities: ["patients"], node: "standby" },
    ...Array.from({ length: pages }, () => ({ do: "page", nth: 0, node: "standby" }) as const),
    { do: "insert", session, table: "patient", key, office: 0, stamp: "now" },
    { do: "page", nth: 0, node: "standby" },
  ]);

function histories(kinds: readonly Weighted<Step>[], scenes: readonly Weighted<Step[]>[] = []): fc.Arbitrary<History> {
  const single = kinds.map(([weight, arbitrary]) => ({ weight, arbitrary: arbitrary.map((step) => [step]) }));
  const steps = fc.oneof(...single, ...scenes.map(([weight, arbitrary]) => ({ weight, arbitrary })));
  return fc.record({
    landed: fc.boolean(),
    steps: fc.array(steps, { minLength: 4, maxLength: 40, size: "max" }).map((some) => some.flat()),
    ends: fc.array(fc.boolean(), { minLength: 12, maxLength: 12 }),
  });
}

const written = { session: 0, table: "patient", office: 0 } as const;
const rewritten = { do: "vacuum", how: "full", table: "patient" } as const;
const all = { landed: true, ends: [] } as const;
/** A rewritten table is compared whole, whatever the capture: by an execution on the way, and by the last one. */
export const REWRITTEN: readonly History[] = [
  {
    ...all,
    steps: [
      rewritten,
      { do: "start", entities: ["patients"], node: "standby" },
      { do: "drain" },
      { ...written, do: "insert", key: 4, stamp: "now" },
      { do: "start", entities: ["patients"], node: "standby" },
      { do: "drain" },
    ],
  },
  {
    ...all,
    steps: [{ ...written, do: "delete", key: 1 }, { ...written, do: "update", key: 2, stamp: "past" }, rewritten],
  },
];

/** Legacy sessions and executions over one server. */
export const plainHistories = histories(
  [...LEGACY, ...SYNC, ...HELD],
  [
    [3, race],
    [2, neverRests],
    [2, comesBack],
  ],
);
/** The same, read from a replica that lags now and then. */
export const laggingHistories = histories([...LEGACY, ...SYNC, ...LAG]);
