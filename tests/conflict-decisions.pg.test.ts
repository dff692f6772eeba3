import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { STRATEGIES, type Strategy } from "../shared/entity/define-entity.ts";
import { createTestTarget, type TestDatabase } from "./support/databases.ts";
import { isObject, mergeObjects, same, type Json, type JsonObject, type Known, type Sides } from "./support/json-merge.ts";

let target: TestDatabase;
beforeAll(async () => {
  target = await createTestTarget();
});
afterAll(() => target[Symbol.asyncDispose]());

const TYPES = [
  "concurrent_modification",
  "foreign_key_violation",
  "business_rule_violation",
  "schema_mismatch",
  "uuid_mapping_conflict",
] as const;
const SITUATIONS = [
  "nothing changed",
  "only the target changed",
  "both say the same",
  "only the source changed",
  "both changed, and can be merged",
  "both changed, and cannot be merged",
] as const;
type Situation = (typeof SITUATIONS)[number];
type Decision = "none" | "keep" | "agree" | "take" | "overwrite" | "retain" | "merge" | "review" | "wait";
type Row = Readonly<Record<Situation, Decision>>;

/** Nobody has to be asked where at most one side has changed something. */
const agreed = {
  "nothing changed": "none",
  "only the target changed": "keep",
  "both say the same": "agree",
  "only the source changed": "take",
} as const;
const bothChanged = (merged: Decision, other: Decision): Row => ({
  ...agreed,
  "both changed, and can be merged": merged,
  "both changed, and cannot be merged": other,
});
const always = (decision: Decision): Row => ({
  "nothing changed": decision,
  "only the target changed": decision,
  "both say the same": decision,
  "only the source changed": decision,
  "both changed, and can be merged": decision,
  "both changed, and cannot be merged": decision,
});
/** What the target cannot take is put to a person, or left until the source changes. */
const refused = {
  source_wins: always("review"),
  target_wins: always("retain"),
  merge: always("review"),
  manual_review: always("review"),
} as const;

/** Every case by name: one that is missing does not compile. */
const EXPECTED: Readonly<Record<(typeof TYPES)[number], Readonly<Record<Strategy, Row>>>> = {
  concurrent_modification: {
    source_wins: bothChanged("overwrite", "overwrite"),
    target_wins: bothChanged("retain", "retain"),
    merge: bothChanged("merge", "review"),
    manual_review: bothChanged("review", "review"),
  },
  foreign_key_violation: {
    source_wins: always("wait"),
    target_wins: always("wait"),
    merge: always("wait"),
    manual_review: always("wait"),
  },
  business_rule_violation: refused,
  schema_mismatch: refused,
  uuid_mapping_conflict: refused,
};

function situationOf(sides: Sides): Situation {
  const { seen, source, target, left } = sides;
  const sourceChanged = seen === undefined || !same(source, seen);
  const targetChanged = left === undefined || !same(target, left);
  if (!sourceChanged) return targetChanged ? "only the target changed" : "nothing changed";
  if (same(source, target)) return "both say the same";
  // Of an empty target nothing could be lost, whether somebody has emptied it or not.
  if (!targetChanged || (left === undefined && target === null)) return "only the source changed";
  return mergeObjects(sides) === undefined ? "both changed, and cannot be merged" : "both changed, and can be merged";
}

describe("what becomes of a difference", () => {
  const VALUES: readonly Json[] = [null, "a", 1, { a: 1, b: 1 }, { a: 2, b: 1 }, { a: 1, b: 2 }];
  const KNOWN: readonly Known[] = [undefined, ...VALUES];
  const sides: readonly Sides[] = KNOWN.flatMap((seen) =>
    VALUES.flatMap((source) => VALUES.flatMap((target) => KNOWN.map((left) => ({ seen, source, target, left })))),
  );
  const cases = TYPES.flatMap((type) => STRATEGIES.flatMap((strategy) => sides.map((values) => ({ type, strategy, ...values }))));

  it(`follows its type, its strategy and what is remembered of it, in each of ${cases.length} cases`, async () => {
    // A key that is missing is SQL NULL.
    const rows = await target.admin<{ decision: string }[]>`
      select sync.decide((c ->> 'type')::public.conflict_type_enum, c -> 'seen', c -> 'source', c -> 'target', c -> 'left',
                         (c ->> 'strategy')::public.conflict_resolution_strategy) as decision
        from jsonb_array_elements(${JSON.stringify(cases)}::text::jsonb) with ordinality x (c, n) order by n`;
    const decided = cases.map((one, index) => ({ ...one, decision: rows[index]?.decision }));
    const wanted = cases.map((one) => ({ ...one, decision: EXPECTED[one.type][one.strategy][situationOf(one)] }));
    expect(decided.filter((one, index) => one.decision !== wanted[index]?.decision)).toEqual([]);
    expect(rows).toHaveLength(cases.length);
  });

  it("meets every situation among these cases", () => {
    expect(new Set(sides.map(situationOf))).toEqual(new Set(SITUATIONS));
  });

  it("knows every type of conflict and every strategy that the database has", async () => {
    const [types] = await target.admin`
      select enum_range(null::public.conflict_type_enum)::text[] as types,
             enum_range(null::public.conflict_resolution_strategy)::text[] as strategies`;
    expect(types).toEqual({ types: [...TYPES], strategies: [...STRATEGIES] });
  });
});

describe("two objects that are merged", () => {
  const scalar = fc.constantFrom<Json>(null, 1, 2, "a");
  const objectOf = (value: fc.Arbitrary<Json>): fc.Arbitrary<JsonObject> =>
    fc.dictionary(fc.constantFrom("a", "b", "c"), value, { noNullPrototype: true });
  const mostly = <T>(often: fc.Arbitrary<T>, seldom: fc.Arbitrary<T>) =>
    fc.oneof({ arbitrary: often, weight: 5 }, { arbitrary: seldom, weight: 1 });
  const object = objectOf(fc.oneof(scalar, objectOf(fc.oneof(scalar, objectOf(scalar)))));
  /** Hardly more than a key set anew or gone, here or within an object. */
  const edited = (before: JsonObject): fc.Arbitrary<Json> =>
    fc
      .tuple(
        mostly(fc.constant<string[]>([]), fc.subarray(Object.keys(before))),
        fc.oneof(fc.constant({}), fc.dictionary(fc.constantFrom("a", "b", "c"), scalar, { maxKeys: 1, noNullPrototype: true })),
        fc.record(
          Object.fromEntries(
            Object.entries(before).map(([key, value]) => [key, isObject(value) ? edited(value) : fc.constant(value)]),
          ),
        ),
      )
      .map(([gone, edit, within]) => ({
        ...Object.fromEntries(Object.entries(within).filter(([key]) => !gone.includes(key))),
        ...edit,
      }));
  const change = (before: JsonObject) => mostly(edited(before), fc.oneof(object, scalar));
  const remembered = (before: JsonObject) => mostly<Known>(fc.constant(before), fc.constantFrom(undefined, null, 1));
  /** What is remembered of the sides is one object, as after a plain update, or two. */
  const common = object.chain((base) => fc.record({ base: fc.constant(base), source: change(base), target: change(base) }));
  const sides: fc.Arbitrary<Sides> = fc.oneof(
    common.map(({ base, ...both }) => ({ seen: base, ...both, left: base })),
    fc
      .tuple(object, object)
      .chain(([one, other]) =>
        fc.record({ seen: remembered(one), source: change(one), target: change(other), left: remembered(other) }),
      ),
  );

  /** In one statement for all of them. */
  const merge = async (all: readonly Sides[]): Promise<readonly Known[]> => {
    const rows = await target.admin<{ merged: Json }[]>`
      select sync.merge_objects(c -> 'seen', c -> 'source', c -> 'target', c -> 'left') as merged
        from jsonb_array_elements(${JSON.stringify(all)}::text::jsonb) with ordinality x (c, n) order by n`;
    return rows.map(({ merged }) => merged ?? undefined);
  };
  const holdsOf = <T extends Sides>(one: fc.Arbitrary<T>, check: (all: readonly T[]) => Promise<void>) =>
    fc.assert(fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 60 }), check), { numRuns: 150, seed: 20_261_101 });

  it("come to what the rule says, at any depth", () =>
    holdsOf(sides, async (all) => {
      expect(await merge(all)).toEqual(all.map(mergeObjects));
    }));

  it("keep every key that only one side has changed, and agree where both have changed it alike", () =>
    holdsOf(sides, async (all) => {
      for (const [index, merged] of (await merge(all)).entries()) {
        const { seen, source, target, left } = all[index] ?? {};
        if (!isObject(merged) || !isObject(source) || !isObject(target) || !isObject(seen) || !isObject(left)) continue;
        for (const key of new Set([seen, source, target, left].flatMap(Object.keys))) {
          const [ours, theirs] = [!same(source[key], seen[key]), !same(target[key], left[key])];
          if (ours && !theirs) expect(merged[key]).toEqual(source[key]);
          if (!ours) expect(merged[key]).toEqual(target[key]);
          if (same(source[key], target[key])) expect(merged[key]).toEqual(source[key]);
        }
      }
    }));

  it("are put to a person where both have changed a key that is no object on both sides", () =>
    holdsOf(sides, async (all) => {
      for (const [index, merged] of (await merge(all)).entries()) {
        const { seen, source, target, left } = all[index] ?? {};
        if (!isObject(source) || !isObject(target) || !isObject(seen) || !isObject(left)) continue;
        const clash = Object.keys({ ...source, ...target, ...seen, ...left }).some(
          (key) =>
            !same(source[key], seen[key]) &&
            !same(target[key], left[key]) &&
            !same(source[key], target[key]) &&
            !(isObject(source[key]) && isObject(target[key])),
        );
        if (clash) expect(merged).toBeUndefined();
      }
    }));

  it("come to the same, whichever side is called source, where both remember the same", () =>
    holdsOf(
      common.map(({ base, ...both }) => ({ seen: base, ...both, left: base })),
      async (all) => {
        const swapped = all.map(({ source, target, ...remembered }) => ({ ...remembered, source: target, target: source }));
        expect(await merge(swapped)).toEqual(await merge(all));
      },
    ));

  it("come to each kind of outcome often enough to mean something", () => {
    const outcomes = fc.sample(sides, { numRuns: 1_000, seed: 20_261_101 }).map((one) => {
      const { source, target } = one;
      const merged = mergeObjects(one);
      if (!merged || !isObject(source) || !isObject(target)) return "put to a person";
      if (same(merged, source) || same(merged, target)) return "one side's";
      const within = Object.keys(merged).some((key) => !same(merged[key], source[key]) && !same(merged[key], target[key]));
      return within ? "merged within a key" : "merged";
    });
    for (const outcome of ["put to a person", "one side's", "merged", "merged within a key"])
      expect(outcomes.filter((one) => one === outcome).length, outcome).toBeGreaterThan(25);
  });
});
