import { Argument, type Command } from "commander";
import { z } from "zod";
import { KINDS, WORDS, type Kind, type Word } from "../shared/target/control.ts";
import { cancellation, controlled, parseAnswer, pausedList } from "./answers.ts";
import { callFunction } from "./call-function.ts";
import { formatTable } from "./output.ts";
import { Problem } from "./problem.ts";
import type { Environment } from "./settings.ts";

const DESCRIPTIONS: Readonly<Record<Word, string>> = {
  pause:
    "have a job, an execution, an entity or a chain wait: no page of it begins, nothing is lost; without an argument: what is paused",
  resume: "let what is paused go on where it stood, at once",
  cancel: "end it: pages at work may commit, no other begins, nothing is rolled back; an id alone is an execution's",
  retry: "have what failed go on from where it stood",
};
const WHERE = "npm run sync -- jobs, executions and status list them; chains stand in sync_chains.";

interface Surroundings {
  readonly env: () => Environment;
  readonly print: (value: unknown, text: string) => void;
}

/** pause, resume, cancel and retry, of a job, an execution, an entity or a chain. */
export function addControlCommands(program: Command, { env, print }: Surroundings): void {
  const say = async (word: Word, kind: Kind, name: string) => {
    const what = { kind, name };
    if ((kind === "execution" || kind === "chain") && !z.guid().safeParse(name).success)
      throw new Problem("REQUEST_INVALID", `${JSON.stringify(name.slice(0, 60))} is not the id of a ${kind}.`, WHERE, {
        exitCode: 2,
      });
    const answer = parseAnswer(controlled, await callFunction(env(), "sync-trigger?control", { word, what }));
    print(answer.controlled, showControlled(answer.controlled));
  };
  const listPaused = async () => {
    const { paused } = parseAnswer(pausedList, await callFunction(env(), "sync-trigger?paused"));
    const rows = paused.map(({ what, name, by, since }) => [what, name, by, since]);
    print(paused, rows.length === 0 ? "Nothing is paused.\n" : formatTable(["what", "name", "by", "since"], rows));
  };
  const cancelExecutions = async (asked: { execution: string } | { all: true }) => {
    const { cancelled } = parseAnswer(cancellation, await callFunction(env(), "sync-trigger?cancel", asked));
    print(cancelled, showCancelled(cancelled));
  };

  for (const word of WORDS) {
    const command = program
      .command(word)
      .description(DESCRIPTIONS[word])
      .addArgument(new Argument("[what]", KINDS.join(", ")))
      .argument("[name]", "name of a job or an entity, id of an execution or a chain");
    if (word === "cancel") command.option("--all", "all executions that run");
    command.action(async (what: string | undefined, name: string | undefined, { all }: { all?: boolean }) => {
      if (word === "pause" && what === undefined) return listPaused();
      if (word === "cancel" && name === undefined && (all === true) !== (what !== undefined))
        return cancelExecutions(what === undefined ? { all: true } : { execution: what });
      const kind = KINDS.find((known) => known === what);
      if (kind === undefined || name === undefined || all === true) {
        const instead = word === "cancel" ? "Name an execution, or give --all; or say" : "Say";
        throw new Problem("REQUEST_INVALID", `${instead} what to ${word}: ${KINDS.join(", ")}, and its name or id.`, WHERE, {
          exitCode: 2,
        });
      }
      return say(word, kind, name);
    });
  }
}

type Controlled = z.output<typeof controlled>["controlled"];

function showControlled({ what, name, word, waits, pagesAtWork, sent }: Controlled): string {
  const work = pagesAtWork === 0 ? "" : ` ${pagesAtWork} pages are at work and may still commit.`;
  const later = waits ? " A page at work, or another execution, is in the way still; a tick carries it out." : "";
  const pages = sent === 0 ? "" : ` ${sent} pages are sent.`;
  const done: Readonly<Record<string, string>> = {
    pause: "is paused: no page of it begins.",
    resume: "goes on where it stood.",
    cancel: "is cancelled. What was committed stays; the next execution goes on.",
    retry: "is tried again from where it stood.",
  };
  return `The ${what} ${name} ${done[word] ?? word}${work}${later}${pages}\n`;
}

function showCancelled(cancelled: readonly { execution: string; pagesAtWork: number }[]): string {
  if (cancelled.length === 0) return "Nothing was running.\n";
  return cancelled
    .map(({ execution, pagesAtWork }) => {
      const work = pagesAtWork === 0 ? "" : ` ${pagesAtWork} pages are at work and may still commit.`;
      return `Execution ${execution} is cancelled.${work} What was committed stays; the next execution goes on.\n`;
    })
    .join("");
}
