import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, it } from "vitest";
import { withSetup } from "../cli/setup/context.ts";
import { putVariables } from "../cli/setup/env-file.ts";

const folder = mkdtempSync(join(tmpdir(), "isthmus-env-file-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What is done of the writing of the file when the process dies, and which of its two texts the file then has. */
const MOMENTS_OF_A_WRITE = [
  { when: "before the draft has a text", patch: ["openSync", "(...given) => (real(...given), die())"], after: "old" },
  {
    when: "in the middle of its text",
    patch: ["writeFileSync", "(file, text) => (real(file, text.slice(0, 9)), die())"],
    after: "old",
  },
  { when: "before its text is on the disk", patch: ["fsyncSync", "() => die()"], after: "old" },
  { when: "before it takes the file's place", patch: ["renameSync", "() => die()"], after: "old" },
  { when: "when it has taken the file's place", patch: ["renameSync", "(...given) => (real(...given), die())"], after: "new" },
] as const;

/** Puts a variable into a file, and dies by SIGKILL within one of the calls. */
const PUT_AND_DIE = ([call, instead]: readonly [string, string]) => `
  import fs from "node:fs";
  import { syncBuiltinESMExports } from "node:module";
  import { putVariables } from "./cli/setup/env-file.ts";
  const real = fs.${call};
  const die = () => process.kill(process.pid, "SIGKILL");
  fs.${call} = ${instead};
  syncBuiltinESMExports();
  putVariables(process.env.ENV_FILE, { A: "a secret" });`;

it("puts variables into the file as they are, and leaves every other line", () => {
  const path = join(folder, "variables.env");
  writeFileSync(path, "# a comment with A=1\nA=old\nexport B = 'two'\nAA=3\n", { mode: 0o644 });
  putVariables(path, { A: "new$&", B: "2", C: "x=y" });
  expect(readFileSync(path, "utf8")).toBe('# a comment with A=1\nA="new$&"\nB="2"\nAA=3\nC="x=y"\n');
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(() => putVariables(path, { A: 'x"\nB="3' })).toThrow(/A cannot be written/);
});

it("follows a link to the file, and leaves the link", () => {
  const place = mkdtempSync(join(folder, "link-"));
  const [real, link] = [join(place, "real.env"), join(place, "link.env")];
  writeFileSync(real, "A=1\n");
  symlinkSync(real, link);
  putVariables(link, { A: "2" });
  expect(readFileSync(real, "utf8")).toBe('A="2"\n');
  expect(readdirSync(place).sort()).toEqual(["link.env", "real.env"]);
});

it.each(MOMENTS_OF_A_WRITE)(
  "keeps the file whole when it is killed $when, and the next command takes away what that left, and says so",
  { timeout: 60_000 },
  async ({ patch, after }) => {
    const place = mkdtempSync(join(folder, "killed-"));
    const envFile = join(place, "isthmus.env");
    const before =
      "SUPABASE_URL=https://aaaaaaaaaaaaaaaaaaaa.supabase.co\nSUPABASE_ACCESS_TOKEN=unused\nTARGET_OWNER_URL=postgres://x@127.0.0.1:1/x\n";
    writeFileSync(envFile, before, { mode: 0o600 });
    const { signal } = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", PUT_AND_DIE(patch)], {
      cwd: resolve(import.meta.dirname, ".."),
      env: { PATH: process.env["PATH"], ENV_FILE: envFile },
    });
    expect(signal).toBe("SIGKILL");
    expect(readFileSync(envFile, "utf8")).toBe(after === "new" ? `${before}A="a secret"\n` : before);
    const left = readdirSync(place).filter((name) => name !== "isthmus.env");
    expect(left).toEqual(after === "new" ? [] : ["isthmus.env.setup-draft"]);
    for (const name of left) expect(statSync(join(place, name)).mode & 0o777).toBe(0o600);
    let told = "";
    await withSetup({}, { envFile, tell: (text) => (told += text) }, () => Promise.resolve());
    expect(readdirSync(place)).toEqual(["isthmus.env"]);
    expect(told).toBe(
      left.length === 0 ? "" : `Removed ${envFile}.setup-draft: a run that was killed left it behind, with secrets in it.\n`,
    );
  },
);
