import { Argument, type Command } from "commander";
import type { Terminal } from "./output.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

/** Adds completion to the program: the script that a shell reads, made from the commands as they are. */
export function addCompletionCommand(program: Command, terminal: Terminal, entities: readonly string[]): void {
  program
    .command("completion")
    .description("print what makes a shell complete commands, options and entities")
    .addArgument(new Argument("<shell>").choices(SHELLS))
    .action((shell: Shell) => {
      terminal.out(shell === "fish" ? forFish(program, entities) : forBash(program, entities, shell));
    });
}

/** What may follow a command: its subcommands, what its arguments may be, and its options, with those of the program. */
function wordsOf(command: Command, program: Command, entities: readonly string[]): readonly string[] {
  const options = [...command.options, ...program.options].flatMap(({ long }) => (long == null ? [] : [long]));
  const named = command.registeredArguments.flatMap((argument) =>
    argument.name() === "entities" ? entities : (argument.argChoices ?? []),
  );
  return [...command.commands.map((one) => one.name()), ...named, ...options, "--help"];
}

function forBash(program: Command, entities: readonly string[], shell: Shell): string {
  const commands = program.commands.map((command) => command.name());
  const branches = program.commands.map(
    (command) => `    ${command.name()}) words="${wordsOf(command, program, entities).join(" ")}" ;;`,
  );
  return [
    ...(shell === "zsh" ? ["autoload -U +X bashcompinit && bashcompinit"] : []),
    "_isthmus() {",
    '  local words current="${COMP_WORDS[COMP_CWORD]}"',
    '  case "${COMP_WORDS[1]}" in',
    ...branches,
    "  esac",
    `  if [ "$COMP_CWORD" -eq 1 ]; then words="${[...commands, "help"].join(" ")}"; fi`,
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    "}",
    "complete -o default -F _isthmus isthmus",
    "",
  ].join("\n");
}

function forFish(program: Command, entities: readonly string[]): string {
  const quoted = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = program.commands.flatMap((command) => [
    `complete -c isthmus -f -n __fish_use_subcommand -a ${command.name()} -d ${quoted(command.description())}`,
    `complete -c isthmus -n '__fish_seen_subcommand_from ${command.name()}' -a ${quoted(wordsOf(command, program, entities).join(" "))}`,
  ]);
  return `${lines.join("\n")}\n`;
}
