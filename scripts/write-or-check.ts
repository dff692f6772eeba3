import { readFileSync, writeFileSync } from "node:fs";
import { relative } from "node:path";

/** Writes a generated file; with `--check` among the arguments it only compares, and a difference ends with exit code 1. */
export function writeOrCheck(path: string, content: string, args: readonly string[]): void {
  if (!args.includes("--check")) {
    writeFileSync(path, content);
    return;
  }
  if (read(path) === content) return;
  process.stderr.write(
    `${relative(process.cwd(), path)} is not what its sources say. Run \`npm run generate\` and commit the result.\n`,
  );
  process.exitCode = 1;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
