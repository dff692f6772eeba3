import cliProgress from "cli-progress";
import type { EntityState, ExecutionState } from "./answers.ts";
import { chainProgress } from "./show-execution.ts";
import type { Terminal } from "./output.ts";
import { EXIT_CODES } from "./exit-codes.ts";
import { Problem } from "./problem.ts";
import { idleMinutes, showTroubles } from "./show-troubles.ts";

/** Nothing has moved for so long: it is said, and again after each doubling. */
const QUIET_SECONDS = 60;
/** So many looks in a row may find nobody there: a deployment, a cold pooler. */
const MISSED_LOOKS = 5;
/** Nobody ends what sync-tick does not look at: the command does not wait for it for ever. */
const LOST_SECONDS = 3 * 60 * 60;

/**
 * Shows an execution until it is closed: a bar per entity at a terminal, a line per change elsewhere. What does not
 * move is said.
 * @throws Problem STALLED when nothing has moved for so long that nobody seems to look after it.
 */
export async function watchExecution(terminal: Terminal, load: () => Promise<ExecutionState>): Promise<ExecutionState> {
  const view = terminal.interactive ? movingBars() : changedLines(terminal);
  let told = 0;
  let missed = 0;
  try {
    for (;;) {
      const state = await load().catch((error: unknown) => {
        if (!(error instanceof Problem) || error.exitCode !== EXIT_CODES.unreachable.code || ++missed > MISSED_LOOKS) throw error;
        return undefined;
      });
      if (state === undefined) {
        await terminal.pause();
        continue;
      }
      missed = 0;
      for (const entity of state.entities ?? []) if (entity.chains !== null) view.show(entity);
      if (state.status !== "running") return state;
      const idle = state.idleSeconds ?? 0;
      if (idle >= LOST_SECONDS) throw lost(state);
      if (idle < QUIET_SECONDS) told = 0;
      else if (idle >= Math.max(QUIET_SECONDS, told * 2)) {
        terminal.err(showTroubles(state));
        told = idle;
      }
      await terminal.pause();
    }
  } finally {
    view.stop();
  }
}

function lost(state: ExecutionState): Problem {
  return new Problem(
    "STALLED",
    `Nothing of execution ${state.execution} has moved for ${idleMinutes(state)} minutes, and nothing has ended it.`,
    "Does sync-tick run? npm run sync -- tick runs it once; npm run sync -- cancel ends the execution.",
  );
}

interface View {
  show(entity: EntityState): void;
  stop(): void;
}

function movingBars(): View {
  const all = new cliProgress.MultiBar(
    {
      format: "  {entity} {bar} {value}/{total} chains  {read} read",
      hideCursor: true,
      clearOnComplete: false,
      emptyOnZero: true,
    },
    cliProgress.Presets.shades_classic,
  );
  const bars = new Map<string, cliProgress.SingleBar>();
  return {
    show: ({ entity, chains, counts }) => {
      const progress = chainProgress(chains);
      const payload = { entity: entity.padEnd(12), read: counts.read.toLocaleString("en") };
      const bar = bars.get(entity) ?? all.create(progress.all, 0, payload);
      bars.set(entity, bar);
      bar.setTotal(progress.all);
      bar.update(progress.closed, payload);
    },
    stop: () => all.stop(),
  };
}

function changedLines(terminal: Terminal): View {
  const last = new Map<string, string>();
  return {
    show: ({ entity, chains, counts }) => {
      const { closed, all } = chainProgress(chains);
      const line = `${entity}: ${closed}/${all} chains, ${counts.read.toLocaleString("en")} read\n`;
      if (last.get(entity) !== line) terminal.out(line);
      last.set(entity, line);
    },
    stop: () => undefined,
  };
}
