import { describe, expect, it } from "vitest";
import { filesToRunAgain, summary, type Report } from "../scripts/ci-results.ts";

type Tests = Record<string, "passed" | "failed" | "skipped">;

/** A file's part of a report. `loaded` false: it never came to its tests. */
const file = (name: string, tests: Tests, loaded = true): Report["testResults"][number] => ({
  name: `${process.cwd()}/tests/${name}`,
  status: loaded && !Object.values(tests).includes("failed") ? "passed" : "failed",
  message: loaded ? "" : "no such module",
  assertionResults: Object.entries(tests).map(([fullName, status]) => ({ fullName, status })),
});
const report = (...testResults: Report["testResults"][number][]): Report => ({ testResults });

describe("what CI says of its tests", () => {
  const right = file("right.test.ts", { a: "passed", b: "skipped" });
  const wrong = file("wrong.test.ts", { c: "passed", d: "failed" });

  it("counts what passed and what failed", () => {
    expect(
      summary([
        [report(right), undefined],
        [report(wrong), undefined],
      ]),
    ).toEqual({ lines: [], passed: 2, failed: 1 });
  });

  it("counts a file that did not load as a failure", () => {
    const { lines, failed } = summary([[report(file("lost.test.ts", {}, false)), undefined]]);
    expect({ lines: lines.join(), failed }).toEqual({
      lines: expect.stringMatching(/lost\.test\.ts: no such module/) as string,
      failed: 1,
    });
  });

  it("names a test that passes alone, and counts it as passed", () => {
    const again = report(file("wrong.test.ts", { c: "passed", d: "passed" }));
    expect(summary([[report(right, wrong), again]])).toEqual({
      lines: ["unsteady: tests/wrong.test.ts > d"],
      passed: 3,
      failed: 0,
    });
  });

  it("counts what fails again, or elsewhere in its file, as failed", () => {
    expect(summary([[report(wrong), report(wrong)]])).toMatchObject({ lines: [], failed: 1 });
    expect(summary([[report(wrong), report(file("wrong.test.ts", { c: "failed", d: "passed" }))]])).toMatchObject({ failed: 1 });
    expect(summary([[report(wrong), report(file("wrong.test.ts", {}, false))]])).toMatchObject({ failed: 1 });
  });

  it("runs few failed files again, and not many", () => {
    expect(filesToRunAgain(report(right, wrong))).toEqual(["tests/wrong.test.ts"]);
    expect(filesToRunAgain(report(right))).toEqual([]);
    const many = Array.from({ length: 4 }, (_, n) => file(`${n}.test.ts`, { e: "failed" }));
    expect(filesToRunAgain(report(...many))).toEqual([]);
  });
});
