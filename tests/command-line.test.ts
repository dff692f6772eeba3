import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { EXAMPLES } from "../cli/examples.ts";
import { EXIT_CODES, exitCodeOf } from "../cli/exit-codes.ts";
import { runSyncCli, syncProgram } from "../cli/program.ts";
import { similarName } from "../cli/similar.ts";
import { clockOf } from "../cli/times.ts";
import { CLI_FILE, generateCli } from "../scripts/generate-cli.ts";

const silent = { env: {}, out: () => undefined, err: () => undefined, interactive: false, pause: () => Promise.resolve() };
const program = syncProgram(silent, () => undefined);
const names = program.commands.map((command) => command.name());

async function run(...args: string[]) {
  let [out, err] = ["", ""];
  const terminal = { ...silent, out: (text: string) => void (out += text), err: (text: string) => void (err += text) };
  return { code: await runSyncCli(args, terminal), out, err };
}

describe("help", () => {
  it("docs/cli.md is what the program says (npm run generate)", async () => {
    expect(readFileSync(CLI_FILE, "utf8")).toBe(await generateCli());
  });

  it.each(names)("%s --help shows examples, of options that there are", async (name) => {
    const { code, out } = await run(name, "--help");
    expect(code).toBe(0);
    const examples = EXAMPLES[name] ?? [];
    expect(examples.length).toBeGreaterThan(0);
    const command = program.commands.find((one) => one.name() === name);
    const known = [...(command?.options ?? []), ...program.options].map(({ long }) => long);
    for (const example of examples) {
      expect(out).toContain(`\n  isthmus ${example}\n`);
      expect(example.split(" ")[0]).toBe(name);
      for (const [option] of example.matchAll(/--[a-z-]+/g)) expect(known).toContain(option);
    }
  });

  it("a mistyped command is told with the one that was meant", async () => {
    expect(await run("statsu")).toMatchObject({ code: 2, err: expect.stringContaining("(Did you mean status?)") as string });
  });
});

describe("completion", () => {
  async function completed(...words: string[]): Promise<string[]> {
    const { code, out } = await run("completion", "bash");
    expect(code).toBe(0);
    const given = `COMP_WORDS=(${["isthmus", ...words].map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length}`;
    const shell = spawnSync("bash", ["--norc", "-c", `${out}\n${given}; _isthmus; printf '%s\\n' "\${COMPREPLY[@]}"`], {
      encoding: "utf8",
    });
    expect(shell.stderr).toBe("");
    return shell.stdout.split("\n").filter(Boolean);
  }

  it("in bash knows commands, their options and words, and the entities", async () => {
    expect(await completed("sta")).toEqual(["start", "status"]);
    expect(await completed("start", "offi")).toEqual(["offices"]);
    expect(await completed("start", "patients", "--fi")).toEqual(["--filter", "--first"]);
    expect(await completed("alerts", "te")).toEqual(["test"]);
    expect(await completed("completion", "f")).toEqual(["fish"]);
    expect(await completed("tick", "--q")).toEqual(["--quiet"]);
    expect(await completed("tick", "off")).toEqual([]);
  });

  it("for zsh and fish names every command; another shell is refused", async () => {
    expect((await run("completion", "zsh")).out).toMatch(/^autoload -U \+X bashcompinit && bashcompinit\n_isthmus\(\) \{/);
    const { out } = await run("completion", "fish");
    for (const name of names) expect(out).toContain(`__fish_use_subcommand -a ${name} -d '`);
    expect((await run("completion", "tcsh")).code).toBe(2);
  });
});

describe("what a person and a script read", () => {
  it("times are in the zone of TZ, in UTC on demand, and as they are where they are none", () => {
    const [summer, winter] = ["2026-07-01T12:00:00.5Z", "2026-12-31T23:30Z"];
    const berlin = clockOf({ TZ: "Europe/Berlin" }, false);
    expect([berlin(summer), berlin(winter)]).toEqual(["2026-07-01 14:00:00 UTC+2", "2027-01-01 00:30:00 UTC+1"]);
    expect(clockOf({ TZ: "Europe/Berlin" }, true)(summer)).toBe("2026-07-01 12:00:00 UTC");
    expect(clockOf({ TZ: "Nowhere/At_all" }, false)(summer)).toMatch(/^2026-0\d-\d\d \d\d:\d\d:00 UTC/);
    expect(berlin("never")).toBe("never");
  });

  it("a name is taken for another one only where it nearly is", () => {
    expect(similarName("ofices", ["offices", "orders"])).toBe("offices");
    expect(similarName("pateints", ["patients", "payments"])).toBe("patients");
    expect(similarName("invoices", ["offices", "orders"])).toBeUndefined();
    expect(similarName("offices", ["offices"])).toBeUndefined();
  });

  it("exit codes are one for each meaning, and follow the answer's status", () => {
    const codes = Object.values(EXIT_CODES).map(({ code }) => code);
    expect(new Set(codes).size).toBe(codes.length);
    expect([401, 404, 409, 500, 503].map(exitCodeOf)).toEqual([5, 5, 5, 1, 6]);
  });
});
