import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import postgres from "postgres";
import { commandLine, processTree } from "../local/processes.ts";
import { expectCounts, expectMoney, expectQueue, expectRecords } from "./support/demo-summary.ts";

/** What the demo may take until it has printed a line; on a busy machine. */
const SOON_MS = 200_000;

describe("npm run demo", { timeout: 300_000 }, () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "isthmus-demo-test-"))));
  afterEach(() => {
    // Of a test that gave up.
    for (const pid of processesOf(folder)) process.kill(pid, "SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });

  it.each([
    ["while it starts", "PostgreSQL 17, the Supabase target"],
    ["while it generates", "Generating the legacy database"],
    ["while it syncs", "First run: everything"],
    ["when all is up", "Everything stays up"],
  ])("ends cleanly on Ctrl-C %s: nothing runs any more, and no error is printed", async (_, moment) => {
    const demo = start("--keep", "--scale", "0.02", "--data", join(folder, "data"));
    await demo.printed(moment);
    const below = processTree(demo.pid);
    process.kill(demo.pid, "SIGINT");
    expect(await demo.exit).toBe(130);
    expect(demo.output()).toMatch(/Stopping …\n$/);
    expect(demo.errors()).not.toMatch(/error|node:/i);
    expect(below.length).toBeGreaterThan(1);
    expect(below.flatMap(processTree)).toEqual([]);
  });

  it.each<[string, "npm" | "demo", NodeJS.Signals, string, ...string[]]>([
    ["npm, which is told to end", "npm", "SIGTERM", "First run: everything"],
    ["npm, which is killed", "npm", "SIGKILL", "Generating the legacy database"],
    ["a demo whose terminal is closed", "demo", "SIGHUP", "Generating the legacy database"],
    ["a demo that is killed while its first server is prepared", "demo", "SIGKILL", "PostgreSQL 17, the legacy source"],
    ["a demo that is killed in the middle of a run", "demo", "SIGKILL", "First run: everything"],
    ["a demo on PostgreSQL 15 whose terminal is closed", "demo", "SIGHUP", "First run: everything", "--target", "15"],
  ])("%s leaves no process behind", async (_, started, signal, moment, ...options) => {
    const data = join(folder, "data");
    const demo = start.by(started)("--keep", "--scale", "0.02", "--data", data, ...options);
    await demo.printed(moment);
    let below: number[] = [];
    while (below.length <= 1) {
      below = processTree(demo.pid);
      await new Promise((soon) => setTimeout(soon, 2));
    }
    process.kill(demo.pid, signal);
    await demo.exit;
    const left = () => [...below.flatMap(processTree), ...processesOf(folder)];
    const deadline = Date.now() + 60_000;
    while (left().length > 0 && Date.now() < deadline) await new Promise((soon) => setTimeout(soon, 50));
    expect(left().map(commandLine)).toEqual([]);
  });

  it("ends by itself with a summary of each run", async () => {
    const demo = start("--scale", "0.02", "--data", join(folder, "data"));
    expect(await demo.exit).toBe(0);
    expect(demo.output().match(/succeeded: every record read is accounted for/g)).toHaveLength(3);
    // A bar for each of the largest entities, one for all the others, and in the end every one of them is full.
    const ends = demo.errors().match(/^ *\S.*? (\d+)\/\1 .* in \d+\.\d s$/gm) ?? [];
    const bars = new Set(ends.map((line) => line.trim().split(/ {2,}| [█░]/)[0]));
    expect([...bars]).toEqual(expect.arrayContaining(["profiles", "orders", "the others"]));
    expect(bars.size).toBeGreaterThan(10);
    expect(bars.size).toBeLessThan(25);
  });

  it.each(["15", "17"])(
    "on PostgreSQL %s prints numbers that plain SQL over both databases recomputes, and example queries that run",
    async (version) => {
      const demo = start("--keep", "--scale", "0.02", "--target", version, "--data", join(folder, "data"));
      await demo.printed("Everything stays up");
      expect(demo.output()).toContain(`PostgreSQL ${version}, the Supabase target`);
      const [, first = "", second = "", third = ""] = demo
        .output()
        .split(/First run: everything|Second run: what changed|Third run: conflicts/);
      const url = (name: string) => new RegExp(`${name}.*psql (postgres://\\S+)`).exec(third)?.[1] ?? "";
      const [target, source] = [postgres(url("target"), { max: 1 }), postgres(url("source"), { max: 1 })];
      try {
        const [me] = await target`
        select rolsuper as super, current_setting('server_version_num')::integer / 10000 as version from pg_roles where rolname = current_user`;
        expect(me).toEqual({ super: false, version: Number(version) });
        for (const printed of [first, second, third]) await expectCounts(printed, target);
        await expectRecords([first, second, third], target, source);
        const both = new Set(["offices", "patients", "operations"]);
        await expectQueue(second, target, (entity) => !both.has(entity));
        await expectQueue(third, target, (entity) => both.has(entity));
        await expectMoney(third, target, source);
        const queries = (third.split("-- what became")[1] ?? "").match(/^ +select [^;]+;/gm) ?? [];
        expect(queries).toHaveLength(3);
        for (const query of queries.slice(0, 2)) expect((await target.unsafe(query)).length).toBeGreaterThan(0);
        const [patient] = await target<{ id: string }[]>`select legacy_patient_id::text as id from public.patients limit 1`;
        const where = queries[2]?.replace("legacy_id = 42", `legacy_id = ${patient?.id ?? ""}`) ?? "";
        expect(await target.unsafe(where)).toMatchObject([{ legacy_patient_id: patient?.id }]);
        // Three conflicts, and the statements that are printed decide them.
        const decisions =
          (third.split("What waits for a decision")[1] ?? "").match(/^ +(?:update sync_conflicts|select sync\.reveal)[^;]+;/gm) ??
          [];
        expect(decisions).toHaveLength(5);
        const open = async () =>
          (await target<{ n: number }[]>`select count(*)::integer as n from public.sync_conflicts where decidable`)[0]?.n;
        const before = (await open()) ?? 0;
        for (const statement of decisions.slice(0, 4)) await target.unsafe(statement);
        expect(await open()).toBe(before - 3);
        await target.unsafe(decisions[4] ?? "");
        expect(await open()).toBe(before - 2);
      } finally {
        await Promise.all([target.end(), source.end()]);
        process.kill(demo.pid, "SIGINT");
        await demo.exit;
      }
    },
  );

  it("does not empty a folder that another program filled", async () => {
    writeFileSync(join(folder, "thesis.txt"), "the only copy");
    const demo = start("--data", folder);
    expect(await demo.exit).toBe(1);
    expect(demo.errors()).toMatch(/holds files that no demo made/);
    expect(readdirSync(folder)).toEqual(["thesis.txt"]);
  });

  it("does not take the folder from a demo that runs in it", async () => {
    const data = join(folder, "data");
    const first = start("--keep", "--scale", "0.02", "--data", data);
    await first.printed("Generating");
    const second = start("--data", data);
    expect(await second.exit).toBe(1);
    expect(second.errors()).toMatch(/A demo \(process \d+\) runs in/);
    process.kill(first.pid, "SIGTERM");
    expect(await first.exit).toBe(143);
  });

  it.each([
    ["--scale", "many"],
    ["--scale", "0"],
    ["--seed", "1.5"],
    ["--target", "16"],
  ])("refuses %s %s", async (option, value) => {
    const demo = start(option, value, "--data", join(folder, "data"));
    expect(await demo.exit).toBe(1);
    expect(demo.errors()).toContain(option);
  });
});

/** Processes that were called with this folder; servers that are born late are in no tree that was looked at before. */
function processesOf(folder: string): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid && commandLine(pid)?.includes(folder) === true);
}

const start = (...options: string[]) => started(process.execPath, ["--import", "tsx", "local/demo.ts", ...options]);
start.by = (what: "npm" | "demo") =>
  what === "demo" ? start : (...options: string[]) => started("npm", ["run", "demo", "--", ...options]);

function started(program: string, args: readonly string[]) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let [output, errors] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  const exit = new Promise<number | null>((done) =>
    child.once("close", (code) => {
      done(code);
    }),
  );
  return {
    pid: child.pid ?? 0,
    exit,
    // A CI service has colours switched on.
    output: () => stripVTControlCharacters(output),
    errors: () => stripVTControlCharacters(errors),
    async printed(text: string): Promise<void> {
      const deadline = Date.now() + SOON_MS;
      while (!output.includes(text)) {
        if (child.exitCode !== null || Date.now() > deadline) throw new Error(`never printed "${text}": ${output}${errors}`);
        await new Promise((soon) => setTimeout(soon, 20));
      }
    },
  };
}
