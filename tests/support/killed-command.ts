import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { Random } from "../../clinic/dataset/random.ts";
import type { Rehearsal } from "./rehearsal.ts";

/** A step in which a command is killed. */
export interface Moment {
  readonly step: string;
  /** How long the step may take on a machine that has nothing else to do. */
  readonly longMs: number;
  /** The step before: of a step that only looks, nothing tells the beginning but the end of that one. */
  readonly behind?: string;
}

/** The command line of a checkout, as npm starts it: from one built file, which starts several times as fast as its parts. */
export const commandLineOf = (folder: string): readonly string[] => [resolve(folder, "cli/isthmus.mjs")];
const HERE = commandLineOf(resolve(import.meta.dirname, "../.."));

/**
 * Runs a command as a process of its own, and kills it (SIGKILL) some time after the first of these moments has
 * begun, at the latest when that step is done.
 * @returns that moment; none when the command came to its end.
 */
export async function killed(
  project: Rehearsal,
  args: readonly string[],
  moments: readonly Moment[],
  afterMs: (moment: Moment) => number,
  program: readonly string[] = HERE,
): Promise<Moment | undefined> {
  const command = started(project, args, program);
  const ended = once(command, "exit");
  let said = "";
  let met: Moment | undefined;
  command.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
    if (met === undefined) {
      met = moments.find(({ step, behind }) =>
        said.includes(behind === undefined ? `\n  ...   ${step} ` : `\n  ok    ${behind} `),
      );
      if (met !== undefined) setTimeout(() => command.kill("SIGKILL"), afterMs(met));
    } else if (said.includes(`\n  ok    ${met.step} `) || said.includes(`\n  you   ${met.step} `)) command.kill("SIGKILL");
  });
  await ended;
  return met;
}

/** Runs a command as a process of its own, and kills it while the platform does what a request like this asks: nobody hears the answer. */
export async function killedAtRequest(project: Rehearsal, args: readonly string[], request: RegExp): Promise<void> {
  const command = started(project, args, HERE);
  let said = "";
  command.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  const ended = once(command, "exit");
  project.api.meanwhile.set(request, () => Promise.resolve(void command.kill("SIGKILL")));
  const [, signal] = (await ended) as [number | null, NodeJS.Signals | null];
  project.api.meanwhile.delete(request);
  if (signal !== "SIGKILL") throw new Error(`${args.join(" ")} came to its end: ${said}`);
}

function started(project: Rehearsal, args: readonly string[], program: readonly string[]) {
  return spawn(process.execPath, [...program, "--env-file", project.envFile, ...args], {
    cwd: resolve(import.meta.dirname, "../.."),
    stdio: ["ignore", "ignore", "pipe"],
    // What a killed run leaves in the folder for temporary files goes with the test's.
    env: { PATH: process.env["PATH"], TMPDIR: project.folder },
  });
}

/**
 * Repeats a command that is killed, each time in another of these moments, until it comes to its end; or until each
 * moment has been met, where its end is not asked for.
 * @returns what was killed when, for the test's output.
 */
export async function killedInEach(
  project: Rehearsal,
  args: readonly string[],
  moments: readonly Moment[],
  seed: number,
  { program, between, toTheEnd = true }: { program?: readonly string[]; between?: () => Promise<void>; toTheEnd?: boolean } = {},
): Promise<readonly string[]> {
  const random = Random.for(seed, args.join(" "));
  const kills: string[] = [];
  let left = moments;
  while (toTheEnd || left.length > 0) {
    const met = await killed(
      project,
      args,
      left,
      ({ step, longMs }) => {
        const afterMs = random.between(0, longMs);
        kills.push(`${step} after ${afterMs} ms`);
        return afterMs;
      },
      program,
    );
    if (met === undefined) break;
    left = left.filter((one) => one !== met);
    await between?.();
  }
  process.stdout.write(`  ${args.join(" ")}, killed: ${kills.join(", ")}\n`);
  return kills;
}
