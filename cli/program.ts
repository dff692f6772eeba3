import { Command, CommanderError, Option } from "commander";
import { z } from "zod";
import { installation } from "../functions/installation.gen.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { adoptAs } from "../shared/target/adoption.ts";
import { readAlerts, showAlerts, showTested, testAlerts } from "./alerts.ts";
import { redirectedAddresses, TOLD } from "./redirects.ts";
import {
  acknowledgement,
  adoptionPreview,
  begunExecution,
  check,
  executionList,
  executionState,
  findingsIn,
  inspection,
  parseAnswer,
  story,
  type ExecutionState,
  type LeftOut,
} from "./answers.ts";
import { callFunction } from "./call-function.ts";
import { addControlCommands } from "./control.ts";
import { addCompletionCommand } from "./completion.ts";
import { addExamples } from "./examples.ts";
import { EXIT_CODES, type ExitCode } from "./exit-codes.ts";
import { addInitCommand } from "./init.ts";
import { anyFailed, readJobs, showJobs } from "./jobs.ts";
import { onTarget } from "./on-target.ts";
import { formatTable, type Terminal } from "./output.ts";
import { Problem, toProblem } from "./problem.ts";
import { readQueue, replayQueue, type ReplaySelection } from "./queue.ts";
import { setupSource } from "./setup-source.ts";
import { similarName } from "./similar.ts";
import { requestOf, withSelection, type SelectionOptions } from "./selection.ts";
import { createSchedule, removeSchedule } from "./schedule.ts";
import { withEnvFile } from "./settings.ts";
import { addSetupCommands } from "./setup/commands.ts";
import { showCheck, showFindings, showInspection, showSideEffects } from "./show-check.ts";
import { showExecution } from "./show-execution.ts";
import { showPlan } from "./show-plan.ts";
import { showPreview } from "./show-preview.ts";
import { showSchedule } from "./show-schedule.ts";
import { showStory } from "./show-story.ts";
import { clockOf } from "./times.ts";
import { watchExecution } from "./watch.ts";

/** Of what --json prints. A field more is no other version; a field less, or with another meaning, is. */
export const JSON_VERSION = 1;

const ENTITIES = installation.entities.map(({ name }) => name);

const CONFLICT_TYPES = [
  "concurrent_modification",
  "foreign_key_violation",
  "business_rule_violation",
  "schema_mismatch",
  "uuid_mapping_conflict",
] as const;

/** Runs one command. @returns its exit code, of EXIT_CODES. */
export async function runSyncCli(args: readonly string[], terminal: Terminal): Promise<ExitCode> {
  let exitCode: ExitCode = 0;
  const program = syncProgram(terminal, (code) => (exitCode = code));
  try {
    await program.parseAsync([...args], { from: "user" });
    return exitCode;
  } catch (error) {
    // Commander has said what is wrong with the arguments; help and version are no errors.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const problem = toProblem(error);
    const { code, message, remedy, detail } = problem;
    if (program.opts<{ json?: boolean }>().json === true)
      terminal.out(`${JSON.stringify({ version: JSON_VERSION, error: { ...detail, code, message, remedy } }, null, 2)}\n`);
    terminal.err(`${code}: ${message}\n  What to do: ${meant(message)}${remedy}\n`);
    for (const [name, value] of Object.entries(detail)) {
      const findings = findingsIn(value);
      if (findings) terminal.err(showFindings(findings));
      else terminal.err(`  ${name}: ${typeof value === "string" ? value : JSON.stringify(value)}\n`);
    }
    return problem.exitCode;
  }
}

/** Of a message that tells of an entity or a job that there is not: the name that was meant. */
function meant(message: string): string {
  const given = /no entity "([^"]+)"/.exec(message)?.[1];
  const name = given === undefined ? undefined : similarName(given, ENTITIES);
  return name === undefined ? "" : `Did you mean ${name}? `;
}

/** The program with all its commands. docs/cli.md is generated from what this returns. */
export function syncProgram(terminal: Terminal, exitWith: (code: ExitCode) => void): Command {
  const program = new Command("isthmus")
    .description(
      "Starts and watches the sync of an installation. Exit codes: 0 done, 1 failed, 2 not given what it needs, 3 the execution was cancelled, 4 done with something left out, 5 refused, 6 unreachable.",
    )
    .option("--env-file <file>", "read variables from this file; exported ones win")
    .option("--json", "print the answer as JSON: {version, answer} or {version, error}")
    .option("--quiet", "print errors and what was left out alone; the exit code tells the rest")
    .option("--utc", "show times in UTC (default: in the zone of TZ, else of the machine)");
  // Subcommands take these settings over from the program they are added to, so they come first.
  program.exitOverride().configureOutput({ writeOut: terminal.out, writeErr: terminal.err });
  const options = () => program.opts<{ envFile?: string; json?: boolean; quiet?: boolean; utc?: boolean }>();
  const clock = (iso: string) => clockOf(terminal.env, options().utc)(iso);
  const env = () => withEnvFile(terminal.env, options().envFile);
  const print = (value: unknown, text: string) => {
    const { json, quiet } = options();
    if (json === true) terminal.out(`${JSON.stringify({ version: JSON_VERSION, answer: value }, null, 2)}\n`);
    else if (quiet !== true) terminal.out(text);
  };
  const shown = () => (options().json === true || options().quiet === true ? withoutOutput(terminal) : terminal);
  const load = async (execution: string) =>
    parseAnswer(executionState, await callFunction(env(), `sync-trigger?execution=${encodeURIComponent(execution)}`));
  const show = (state: ExecutionState) => {
    print(state, state.dryRun ? showPlan(state) : showExecution(state, clock));
    if (state.status === "failed") exitWith(EXIT_CODES.failed.code);
    if (state.status === "incomplete") exitWith(EXIT_CODES.leftOut.code);
    if (state.status === "cancelled") exitWith(EXIT_CODES.cancelled.code);
  };

  const tellLeftOut = (paused: LeftOut) => {
    if (paused.length === 0) return;
    const findings = paused.flatMap((one) => one.findings);
    terminal.err(`Left out: ${paused.map(({ entity }) => entity).join(", ")}.\n${showFindings(findings)}`);
    exitWith(EXIT_CODES.leftOut.code);
  };

  const begin = async (request: object) => {
    const begun = parseAnswer(begunExecution, await callFunction(env(), "sync-trigger", request));
    const held = begun.warnings.filter(({ code }) => code === "horizon_held");
    if (held.length > 0) terminal.err(showFindings(held));
    tellLeftOut(begun.paused);
    return begun;
  };

  const start = async (request: object, watch: boolean | undefined) => {
    const begun = await begin(request);
    if (watch === true) {
      show(await watchExecution(shown(), () => load(begun.execution)));
      return;
    }
    const work = new Set(begun.chains.map((chain) => chain.entity));
    print(
      begun,
      `Execution ${begun.execution} has begun: ${begun.entities.length} entities, ${work.size} with work.\n` +
        `Watch it: npm run sync -- status ${begun.execution} --watch\n`,
    );
  };

  withSelection(
    program
      .command("start")
      .description("start an execution for all or the named entities, or for selected records")
      .argument("[entities...]"),
  )
    .option("--watch", "stay until it is closed")
    .action(async (entities: string[], { watch, ...selected }: SelectionOptions & { watch?: boolean }) => {
      await start(requestOf(entities, selected), watch);
    });

  program
    .command("adopt")
    .description("take over the ids of rows that an earlier migration left in the target, for all or the named entities")
    .argument("[entities...]")
    .option("--dry-run", "tell what would be found, and change nothing")
    .option("--watch", "stay until it is closed")
    .action(async (entities: string[], { dryRun, watch }: { dryRun?: boolean; watch?: boolean }) => {
      const request = { adopt: true, ...named(entities) };
      if (dryRun !== true) {
        await start(request, watch);
        return;
      }
      const found = parseAnswer(adoptionPreview, await callFunction(env(), "sync-trigger", { ...request, dryRun: true }));
      tellLeftOut(found.paused);
      print(found, showPreview(found.preview));
    });

  program
    .command("adopt-as")
    .description("decide which of several rows with one legacy id is the record (over TARGET_DB_URL)")
    .argument("<conflict>", "id of the entry in sync_conflicts")
    .argument("<row>", "id of the target row, one of its candidates")
    .action(async (conflict: string, row: string) => {
      await onTarget(env(), (target) => adoptAs(target, uuid(conflict), uuid(row)));
      print({ conflict, row }, `Row ${row} is the record. The others stay as they are and count as surplus.\n`);
    });

  withSelection(
    program
      .command("plan")
      .description("tell what a run of all or the named entities, or of selected records, would do and why, and write nothing")
      .argument("[entities...]"),
  ).action(async (entities: string[], selected: SelectionOptions) => {
    const begun = await begin({ dryRun: true, ...requestOf(entities, selected) });
    const stopping = begun.warnings.filter(({ severity }) => severity === "fatal");
    if (stopping.length > 0) {
      const stopped = [...new Set(stopping.map(({ entity }) => entity ?? "every entity"))];
      terminal.err(`A run would leave out, until this is acknowledged: ${stopped.join(", ")}.\n${showFindings(stopping)}`);
      exitWith(EXIT_CODES.leftOut.code);
    }
    show(await watchExecution(shown(), () => load(begun.execution)));
  });

  program
    .command("status")
    .description("state of an execution, or of the latest one")
    .argument("[execution]")
    .option("--watch", "stay until it is closed")
    .action(async (given: string | undefined, { watch }: { watch?: boolean }) => {
      const execution = given ?? (await listExecutions(env()))[0]?.execution;
      if (execution === undefined)
        throw new Problem("NOT_FOUND", "There has been no execution yet.", "Start one: npm run sync -- start");
      show(watch === true ? await watchExecution(shown(), () => load(execution)) : await load(execution));
    });

  program
    .command("explain")
    .description("tell one record's whole story: both sides, each field, the queue, and what a run would do now")
    .argument("<entity>")
    .argument("<id>", "its id in the old database")
    .action(async (entity: string, id: string) => {
      const asked = new URLSearchParams({ explain: entity, id });
      const told = parseAnswer(story, await callFunction(env(), `sync-trigger?${asked.toString()}`));
      print(told, showStory(told));
    });

  addControlCommands(program, { env, print });

  program
    .command("executions")
    .description("the latest executions, newest first")
    .action(async () => {
      const executions = await listExecutions(env());
      const rows = executions.map((x) => [
        x.execution,
        `${x.status}${x.dryRun ? " (plan)" : ""}${x.paused ? " (paused)" : ""}`,
        x.recordsProcessed,
        clock(x.startedAt),
        x.completedAt === null ? "-" : clock(x.completedAt),
        x.triggeredBy,
      ]);
      print(executions, formatTable(["execution", "status", "records", "started", "closed", "triggered by"], rows));
    });

  program
    .command("jobs")
    .description("what runs when, and why a job could not begin or failed (over TARGET_DB_URL); exit code 1 when one has failed")
    .action(async () => {
      const jobs = await readJobs(env());
      print(jobs, showJobs(jobs, clock));
      if (anyFailed(jobs)) exitWith(1);
    });

  const alerts = program
    .command("alerts")
    .description("what needs a person, with what to do (over TARGET_DB_URL); exit code 1 when something critical is open")
    .action(async () => {
      const open = await readAlerts(env());
      print(open, showAlerts(open, clock));
      if (open.some(({ severity }) => severity === "critical")) exitWith(1);
    });
  alerts
    .command("test")
    .description(
      "send a test message to the addresses that are told of alerts, and wait for it; exit code 1 when the first does not answer with a status from 200 to 299, or one of the file redirects",
    )
    .action(async () => {
      const tested = await testAlerts(env());
      const redirected = await redirectedAddresses(env());
      print(
        tested.map((one) => ({
          ...one,
          redirect: redirected.find(({ variable }) => TOLD[variable] === one.address)?.status ?? null,
        })),
        showTested(tested, redirected),
      );
      const failed = tested.some(({ address, status }) => address === "first" && status !== "delivered");
      if (failed || redirected.length > 0) exitWith(1);
    });

  program
    .command("queue")
    .description("what waits or needs a person, by entity, state and rule (over TARGET_DB_URL)")
    .action(async () => {
      const queue = await readQueue(env());
      const rows = queue.map((q) => [q.entity, q.state, q.rule, q.count, clock(q.oldest), q.remedy]);
      print(
        queue,
        rows.length === 0
          ? "The queue is empty.\n"
          : formatTable(["entity", "state", "rule", "records", "oldest", "what to do"], rows),
      );
    });

  program
    .command("replay")
    .description("have records of the queue read again now, all or some (over TARGET_DB_URL); the next tick reads them")
    .option("--entity <name>", "only of this entity")
    .option("--rule <rule>", "only what this rule, constraint or SQLSTATE has stopped, as queue shows it")
    .addOption(new Option("--type <type>", "only conflicts of this type").choices(CONFLICT_TYPES))
    .option("--dry-run", "only tell how many there are")
    .action(async ({ dryRun = false, ...selection }: ReplaySelection & { dryRun?: boolean }) => {
      const records = await replayQueue(env(), selection, dryRun);
      print(
        { records, dryRun },
        dryRun ? `${records} records would be read again.\n` : `${records} records are read again with the next tick.\n`,
      );
    });

  program
    .command("check")
    .description("whether everything answers the functions and both catalogs fit; what writes to the target set off")
    .action(async () => {
      const found = parseAnswer(check, await callFunction(env(), "sync-trigger?check"));
      print(found, showCheck(found));
      if (!found.ok) exitWith(1);
    });

  const inspect = async () => parseAnswer(inspection, await callFunction(env(), "sync-trigger?inspect"));

  program
    .command("inspect")
    .description("how the changes of each source table can be found, what that costs, and what would make it cheaper")
    .action(async () => {
      const found = await inspect();
      print(found, showInspection(found));
      if (found.findings.some(({ severity }) => severity === "fatal")) exitWith(1);
    });

  program
    .command("setup-source")
    .description("print the SQL that the owner of the source runs: a role that reads exactly what is needed, optional indexes")
    .option("--role <name>", "of the source", "isthmus_reader")
    .action(async ({ role }: { role: string }) => {
      const sql = await setupSource(role, inspect);
      print({ sql }, sql);
    });

  program
    .command("acknowledge")
    .description("accept what writes to these tables of the target set off; check lists it")
    .argument("[tables...]")
    .option("--all", "of all tables")
    .action(async (tables: string[], { all }: { all?: boolean }) => {
      if ((all === true) === tables.length > 0) {
        throw new Problem("REQUEST_INVALID", "Name tables, or give --all.", "npm run sync -- check lists them.", { exitCode: 2 });
      }
      const by = terminal.env["USER"] ?? "";
      const request = { ...(all === true ? {} : { tables }), ...(by === "" ? {} : { by }) };
      const { acknowledged } = parseAnswer(acknowledgement, await callFunction(env(), "sync-trigger?acknowledge", request));
      const effects = acknowledged.map((effect) => ({ ...effect, acknowledged: true }));
      print(acknowledged, effects.length === 0 ? "There was nothing to acknowledge.\n" : showSideEffects(effects));
    });

  program
    .command("grants")
    .description("print the SQL that gives isthmus_worker its rights on the application's tables")
    .action(() => {
      const sql = `${workerGrants(installation.entities)}\n`;
      print({ sql }, sql);
    });

  addInitCommand(program, { print, env });
  addSetupCommands(program, { terminal, options, print, exitWith });

  program
    .command("schedule")
    .description("call sync-tick every minute through QStash, where the project has no pg_cron")
    .option("--remove", "remove the schedule")
    .action(async ({ remove }: { remove?: boolean }) => {
      const done = remove === true ? await removeSchedule(env()) : await createSchedule(env());
      print(done, showSchedule(done));
    });

  program
    .command("tick")
    .description("call sync-tick once: due jobs, overdue pages, waiting records")
    .action(async () => {
      const answer = await callFunction(env(), "sync-tick", {});
      print(answer, "sync-tick has taken the call and works on in the background.\n");
    });
  addCompletionCommand(program, terminal, ENTITIES);
  addExamples(program);
  return program;
}

const named = (entities: readonly string[]) => (entities.length > 0 ? { entities } : {});

/** @throws Problem with exit code 2 when an argument is no UUID. */
function uuid(text: string): string {
  if (z.guid().safeParse(text).success) return text;
  throw new Problem(
    "REQUEST_INVALID",
    `${JSON.stringify(text.slice(0, 60))} is not a UUID.`,
    "Copy the id from sync_conflicts.",
    {
      exitCode: 2,
    },
  );
}

/** What is printed as JSON is printed alone: a machine reads it. */
function withoutOutput(terminal: Terminal): Terminal {
  return { ...terminal, interactive: false, out: () => undefined };
}

async function listExecutions(env: Parameters<typeof callFunction>[0]) {
  return parseAnswer(executionList, await callFunction(env, "sync-trigger")).executions;
}
