import type { Command } from "commander";

/** What people type: shown by --help and in docs/cli.md. */
export const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  start: ["start", "start books authors --watch", "start --ids books=4711,4712 --dependants"],
  plan: ["plan", "plan books --full", "plan books --conflicts manual_review"],
  explain: ["explain books 4711", "explain books 4711 --json"],
  adopt: ["adopt --dry-run", "adopt books --watch"],
  "adopt-as": ["adopt-as 7b0c2f6e-0000-4000-8000-000000000001 7b0c2f6e-0000-4000-8000-000000000002"],
  status: ["status", "status --watch", "status 7b0c2f6e-0000-4000-8000-000000000001 --json"],
  pause: ["pause", "pause entity books", "pause job daily"],
  resume: ["resume entity books", "resume job daily"],
  retry: ["retry execution 7b0c2f6e-0000-4000-8000-000000000001"],
  cancel: ["cancel 7b0c2f6e-0000-4000-8000-000000000001", "cancel --all", "cancel job daily"],
  executions: ["executions", "executions --utc", "executions --json"],
  jobs: ["jobs"],
  alerts: ["alerts", "alerts test"],
  queue: ["queue"],
  replay: ["replay --dry-run", "replay --entity books --type foreign_key_violation"],
  check: ["check", "check --quiet && echo fits"],
  inspect: ["inspect"],
  "setup-source": ["setup-source --role isthmus_reader"],
  acknowledge: ["acknowledge books authors", "acknowledge --all"],
  grants: ["grants"],
  init: ["init my-company --env-file ../databases.env", "init my-company --tables books,old_authors=authors"],
  setup: ["setup --env-file ../isthmus.env", "setup --upgrade --env-file ../isthmus.env"],
  uninstall: ["uninstall --env-file ../isthmus.env"],
  schedule: ["schedule", "schedule --remove"],
  tick: ["tick"],
  completion: [
    "completion bash >> ~/.bashrc",
    "completion zsh >> ~/.zshrc",
    "completion fish > ~/.config/fish/completions/isthmus.fish",
  ],
};

/** Puts the examples below the help of each command. */
export function addExamples(program: Command): void {
  for (const command of program.commands) {
    const examples = EXAMPLES[command.name()] ?? [];
    if (examples.length === 0) continue;
    command.addHelpText("after", `\nExamples:\n${examples.map((example) => `  isthmus ${example}\n`).join("")}`.trimEnd());
  }
}
