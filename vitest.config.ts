import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Minutes each; the first waits for leases most of the time. They run beside all the others instead of after them. */
const LONGEST = [
  "tests/faults.int.test.ts",
  "tests/histories.pg.test.ts",
  "tests/hostile-schemas.pg.test.ts",
  "tests/dry-run.pg.test.ts",
  "tests/whole-clinic.int.test.ts",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification) => {
      const place = LONGEST.findIndex((file) => moduleId.endsWith(file));
      return place < 0 ? LONGEST.length : place;
    };
    return sorted.sort((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: "unit",
          sequence: { groupOrder: 0 },
          include: ["tests/**/*.test.ts"],
          exclude: ["tests/**/*.{pg,int}.test.ts"],
        },
      },
      {
        test: {
          name: "integration",
          sequence: { groupOrder: 1 },
          include: ["tests/**/*.{pg,int}.test.ts"],
          globalSetup: ["tests/support/global-setup.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          // Servers and functions share two cores: more files at a time would only slow each other down.
          maxWorkers: 2,
        },
      },
    ],
  },
});
