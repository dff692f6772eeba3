import { existsSync, readFileSync } from "node:fs";
import { relative, resolve } from "node:path";

// What vitest's JSON reports of CI's runs say. `files REPORT`: the files to run once more; `sum STATUS REPORT...`:
// the closing lines. Beside each report, REPORT.again is what its failed files did when they ran alone.

export interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/** More failed files than this are no accident of a busy machine. */
const FEW = 3;

const fromHere = (path: string) => relative(process.cwd(), path);
const failedTests = ({ assertionResults }: Report["testResults"][number]) =>
  assertionResults.filter(({ status }) => status === "failed");

/** The files of a report in which something failed. None: nothing did, or they are too many. */
export function filesToRunAgain({ testResults }: Report): string[] {
  const failed = testResults.filter(({ status }) => status === "failed");
  return failed.length > FEW ? [] : failed.map(({ name }) => fromHere(name));
}

/**
 * What ran, all told: a test that failed and passed alone has passed, and is named as unsteady. A file that did not
 * load is a failure.
 * @param runs pairs of reports: of a run, and of its failed files once more (undefined: they were not run)
 */
export function summary(runs: readonly (readonly [Report, Report | undefined])[]): {
  lines: string[];
  passed: number;
  failed: number;
} {
  const lines: string[] = [];
  let [passed, failed] = [0, 0];
  for (const [first, again] of runs) {
    const later = new Map((again?.testResults ?? []).map((file) => [file.name, file]));
    for (const file of first.testResults) {
      const last = file.status === "failed" ? (later.get(file.name) ?? file) : file;
      const broken = failedTests(last);
      passed += last.assertionResults.filter(({ status }) => status === "passed").length;
      failed += broken.length;
      if (last.status === "failed" && broken.length === 0) {
        failed += 1;
        lines.push(`failed outside a test: ${fromHere(last.name)}: ${last.message}`);
      }
      if (last !== file && last.status !== "failed")
        lines.push(...failedTests(file).map(({ fullName }) => `unsteady: ${fromHere(file.name)} > ${fullName}`));
    }
  }
  return { lines, passed, failed };
}

const read = (file: string): Report =>
  existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Report) : { testResults: [] };

if (process.argv[1] !== undefined && resolve(process.argv[1]) === import.meta.filename) {
  const [, , command, ...rest] = process.argv;
  if (command === "files") process.stdout.write(filesToRunAgain(read(rest[0] ?? "")).join(" "));
  if (command === "sum") {
    const [status, ...reports] = rest;
    const { lines, passed, failed } = summary(
      reports.map((file) => [read(file), existsSync(`${file}.again`) ? read(`${file}.again`) : undefined]),
    );
    for (const line of lines) process.stdout.write(`${line}\n`);
    // The last line is read by machines. Where a command failed and no test did, that is one failure.
    process.stdout.write(`${passed} passed, ${failed === 0 && status !== "0" ? 1 : failed} failed\n`);
  }
}
