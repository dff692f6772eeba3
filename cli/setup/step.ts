import { Problem, toProblem } from "../problem.ts";
import { isLost, LostTransaction } from "./lost-transaction.ts";
import type { Terminal } from "../output.ts";

/** What a look at one part of an installation found. `due`: the step will do what `text` says. `person`: only a person can, by `actions`. */
export type Found =
  | { readonly state: "done" | "due"; readonly text: string }
  | { readonly state: "person"; readonly text: string; readonly actions: readonly string[] };

/** One part of an installation: a look that changes nothing, and what makes the part as it should be. Both can be repeated at any time. */
export interface Step<Context> {
  readonly title: string;
  look(context: Context): Promise<Found>;
  act?(context: Context): Promise<void>;
}

export interface Seen {
  readonly title: string;
  readonly found: Found;
}

const SIGNS = { done: "ok", due: "will", person: "you" } as const;

/** Looks at every step, in order, and changes nothing. @throws Problem that names the step. */
export function lookAt<C>(steps: readonly Step<C>[], context: C, terminal: Terminal): Promise<readonly Seen[]> {
  return through(steps, terminal, (step) => step.look(context));
}

/**
 * Does what is due, step by step, and looks again after each: a step that did not take ends the run. What is done
 * already is not done again, so that a run which was broken off goes on where it stood. @throws Problem that names
 * the step.
 */
export function perform<C>(steps: readonly Step<C>[], context: C, terminal: Terminal): Promise<readonly Seen[]> {
  return through(steps, terminal, async (step) => {
    const found = await step.look(context);
    if (found.state !== "due") return found;
    terminal.err(`  ...   ${step.title.padEnd(WIDTH)}  ${found.text}\n`);
    await step.act?.(context);
    const after = await step.look(context);
    if (after.state !== "due") return after;
    throw new Problem("STEP_FAILED", `it was done, and is still due: ${after.text}.`, "Run the command again.");
  });
}

async function through<C>(
  steps: readonly Step<C>[],
  terminal: Terminal,
  find: (step: Step<C>) => Promise<Found>,
): Promise<Seen[]> {
  const seen: Seen[] = [];
  for (const step of steps) {
    const found = await named(step, () => find(step));
    terminal.err(line(step.title, found));
    seen.push({ title: step.title, found });
  }
  return seen;
}

const WIDTH = 17;

function line(title: string, { state, text }: Found): string {
  return `  ${SIGNS[state].padEnd(4)}  ${title.padEnd(WIDTH)}  ${text}\n`;
}

const AGAIN = "Run the command again: it looks at what was done, and goes on there.";

function lostConnection(title: string, cause: unknown): Problem {
  return new Problem(
    "TARGET_UNAVAILABLE",
    `${title}: The connection to the target (TARGET_OWNER_URL) was lost in the middle of this step.`,
    AGAIN,
    { cause },
  );
}

async function named<T>(step: { readonly title: string }, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof LostTransaction) throw lostConnection(step.title, error);
    const problem = toProblem(error);
    const { code, message, exitCode, detail } = problem;
    // Whichever connection it was, its own error names it.
    const remedy = isLost(error) ? AGAIN : problem.remedy;
    const said = message.startsWith(step.title) ? message : `${step.title}: ${message}`;
    throw new Problem(code, said, remedy, { exitCode, detail, cause: error });
  }
}
