import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { EVERYDAY } from "./tests/everyday.ts";

/** Minutes each; the first waits for leases most of the time. They run beside all the others instead of after them. */
const LONGEST = [
  "tests/faults.int.test.ts",
  "tests/histories.pg.test.ts",
  "tests/hostile-schemas.pg.test.ts",
  "tests/dry-run.pg.test.ts",
  "tests/whole-clinic.int.test.ts",
  "tests/later-killed.int.test.ts",
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

/** Tests that need databases: two files at a time, each with a server of its own (tests/support/servers.ts). */
const WITH_DATABASES = {
  globalSetup: ["tests/support/global-setup.ts"],
  testTimeout: 120_000,
  hookTimeout: 120_000,
  // Servers and functions share two cores: more files at a time would only slow each other down.
  maxWorkers: 2,
};

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
      { test: { ...WITH_DATABASES, name: "everyday", sequence: { groupOrder: 1 }, include: EVERYDAY } },
      {
        test: {
          ...WITH_DATABASES,
          name: "integration",
          sequence: { groupOrder: 2 },
          include: ["tests/**/*.{pg,int}.test.ts"],
          exclude: EVERYDAY,
        },
      },
    ],
  },
});
