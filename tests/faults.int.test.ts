import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { endState, resetTarget } from "./support/digest.ts";
import { injectFaults } from "./support/faults.ts";
import { startTestPlatform, type TestPlatform } from "./support/platform.ts";
import { wholeSet } from "./support/number-set.ts";

/** In every run of the tests; hundreds, and all entities, with `ISTHMUS_FAULT_RUNS=300 npm run test:faults`. */
const RUNS = wholeSet("ISTHMUS_FAULT_RUNS", 12);
const FIRST_SEED = wholeSet("ISTHMUS_FAULT_SEED", 1, 0);
/** A family of each kind: parents, children, dependants of joined rows, and records of their own entity. */
const FAMILIES = {
  entities: [
    ...["offices", "profiles", "doctors", "patients", "orders", "payments", "operations"],
    ...["cases", "order_cases", "projects", "treatment_plans", "treatment_discussions", "comments", "categories"],
  ],
};
const REQUEST = process.env["ISTHMUS_FAULT_RUNS"] === undefined ? FAMILIES : {};
const NAMESPACE = "6f1f7e1c-2f0b-4c0d-9d52-0a1b2c3d4e5f";

describe("killing anything at any moment", () => {
  let test: TestPlatform;
  let undisturbed: Record<string, string[]>;
  /** A new target, and a cache that remembers none: else the target would be taken for one that was put back. */
  const beginAnew = async () => {
    await resetTarget(test.target, NAMESPACE);
    await test.platform.redis.crash();
    await test.platform.redis.restart();
  };

  beforeAll(async () => {
    // Small pages and short leases: many seams, quick recovery.
    test = await startTestPlatform("faults", {
      scale: 0.02,
      env: { ISTHMUS_PAGE_SIZE: "60", ISTHMUS_PAGE_SIZE_MAX: "60", ISTHMUS_LEASE_SECONDS: "2", ISTHMUS_ROWS_PER_CHAIN: "150" },
    });
    await beginAnew();
    const state = await test.finish((await test.start(REQUEST)).execution);
    expect(state.status).toBe("succeeded");
    undisturbed = await endState(test.target);
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it.each(Array.from({ length: RUNS }, (_, index) => FIRST_SEED + index))(
    "ends in the same rows, mappings, states and queue as an undisturbed run (seed %i)",
    async (seed) => {
      await beginAnew();
      const { execution } = await test.start(REQUEST);
      const repair = injectFaults(test.platform, seed, 8, 2_400);
      const finished = await test.finish(execution, { tickEveryMs: 500 }).finally(repair);
      const faults = await repair();
      expect(faults.length).toBeGreaterThan(0);
      expect(finished, faults.join(", ")).toMatchObject({ status: "succeeded", errors: null });
      const state = await endState(test.target);
      for (const [part, lines] of Object.entries(undisturbed))
        expect(state[part], `${part} after ${faults.join(", ")}`).toEqual(lines);
    },
  );
});
