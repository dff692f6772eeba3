import cliProgress from "cli-progress";
import type { EntityState, ExecutionState } from "./answers.ts";
import { chainProgress } from "./show-execution.ts";
import type { Terminal } from "./output.ts";

/** Shows an execution until it is closed: a bar per entity at a terminal, a line per change elsewhere. */
export async function watchExecution(terminal: Terminal, load: () => Promise<ExecutionState>): Promise<ExecutionState> {
  const view = terminal.interactive ? movingBars() : changedLines(terminal);
  try {
    for (;;) {
      const state = await load();
      for (const entity of state.entities ?? []) if (entity.chains !== null) view.show(entity);
      if (state.status !== "running") return state;
      await terminal.pause();
    }
  } finally {
    view.stop();
  }
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
