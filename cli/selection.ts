import { Option, type Command } from "commander";
import { STRATEGIES } from "../shared/entity/define-entity.ts";
import { Problem } from "./problem.ts";

export interface SelectionOptions {
  readonly full?: boolean;
  readonly capture?: string;
  readonly ids?: readonly string[];
  readonly filter?: readonly string[];
  readonly from?: string;
  readonly to?: string;
  readonly first?: readonly string[];
  readonly dependants?: boolean;
  readonly pageSize?: string;
  readonly conflicts?: string;
  readonly overwriteEdits?: boolean;
}

/** Adds what a run or a plan may be asked for beside the names of entities. */
export function withSelection(command: Command): Command {
  const repeated = (text: string, before: string[] = []) => [...before, text];
  return command
    .addOption(new Option("--full", "read everything again, not only what changed").conflicts("capture"))
    .option("--capture <name>", "how changes are found: auto, full, xmin, modified, digest")
    .option("--ids <entity=ids>", "read these ids of the old database, as books=1,2,3; repeatable", repeated)
    .option("--filter <entity.column=values>", "read the records with these values, as books.format=3; repeatable", repeated)
    .option("--from <time>", "read what is dated from this time on, as 2026-01-31T08:00:00Z")
    .option("--to <time>", "and before this time")
    .option("--first <entity>", "run this entity first, as far as its parents allow it; repeatable", repeated)
    .option("--dependants", "read the records that refer to the selected ones as well")
    .option("--page-size <records>", "records of a page")
    .addOption(
      new Option(
        "--conflicts <strategy>",
        "who wins where both sides have changed a field, whatever the entities declare",
      ).choices(STRATEGIES),
    )
    .option(
      "--overwrite-edits",
      "of the named entities (with --capture digest, --full, --ids or --filter), write the source's values over what only the target has changed, too",
    );
}

/** The request that a command line stands for. @throws Problem with exit code 2 when an option is not of its form. */
export function requestOf(entities: readonly string[], options: SelectionOptions): object {
  const { from, to, first, pageSize } = options;
  const capture = options.full === true ? "full" : options.capture;
  return {
    ...(entities.length > 0 ? { entities } : {}),
    ...(capture === undefined ? {} : { capture }),
    ...(options.ids ? { legacyIds: idsOf(options.ids) } : {}),
    ...(options.filter ? { filters: filtersOf(options.filter) } : {}),
    ...(from === undefined && to === undefined ? {} : { dateRange: { from, to } }),
    ...(first ? { priorities: first } : {}),
    ...(options.dependants === true ? { dependants: true } : {}),
    ...(pageSize === undefined ? {} : { pageSize: Number(pageSize) }),
    ...(options.conflicts === undefined ? {} : { conflictStrategy: options.conflicts }),
    ...(options.overwriteEdits === true ? { overwriteEdits: true } : {}),
  };
}

// Maps, and objects made of entries: a name such as __proto__ or constructor is sent as it was given, and refused
// there.
function idsOf(given: readonly string[]): Record<string, string[]> {
  const ids = new Map<string, string[]>();
  for (const text of given) {
    const [, entity = "", list = ""] = /^([^=]+)=(.+)$/.exec(text) ?? malformed("--ids", text, "books=1,2,3");
    ids.set(entity, [...(ids.get(entity) ?? []), ...list.split(",")]);
  }
  return Object.fromEntries(ids);
}

function filtersOf(given: readonly string[]): Record<string, Record<string, string[]>> {
  const filters = new Map<string, Map<string, string[]>>();
  for (const text of given) {
    const [, entity = "", column = "", list = ""] =
      /^([^.=]+)\.([^=]+)=(.*)$/.exec(text) ?? malformed("--filter", text, "books.format=3");
    const columns = filters.get(entity) ?? new Map<string, string[]>();
    filters.set(entity, columns.set(column, [...(columns.get(column) ?? []), ...list.split(",")]));
  }
  return Object.fromEntries([...filters].map(([entity, columns]) => [entity, Object.fromEntries(columns)]));
}

function malformed(option: string, text: string, example: string): never {
  throw new Problem(
    "REQUEST_INVALID",
    `${option} ${JSON.stringify(text.slice(0, 60))} is not of the form ${example}.`,
    "Correct the option.",
    {
      exitCode: 2,
    },
  );
}
