import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it } from "vitest";
import { runSyncCli } from "../cli/program.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Context } from "../shared/context.ts";
import type { PageMessage } from "../shared/target/sending.ts";
import type { PageOutcome } from "../shared/page/page-outcome.ts";
import { readerUrl, workerUrl } from "./support/databases.ts";
import { Gate, gated } from "./support/gate.ts";
import { createFunctions, SECRET_KEY } from "./support/handlers.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const TRIES = 3;
const MINUTES = 60;

/** What keeps a page from coming through. */
interface Hindrance {
  readonly title: string;
  /** What the error says of the page, and of its cause. */
  readonly says: RegExp;
  readonly cause: string | undefined;
  /** Whether a job may try again soon. */
  readonly passes: boolean;
  /** One try at the page that is hindered. */
  readonly attempt: (test: Pipeline, message: PageMessage) => Promise<PageOutcome | undefined>;
}

const hindrances: readonly Hindrance[] = [
  {
    title: "a page that the source refuses for now, again and again",
    says: /^Page 0 of operations made no progress: it failed 3 times, the last time with SOURCE_UNAVAILABLE\.$/,
    cause: "SOURCE_UNAVAILABLE",
    passes: true,
    attempt: async (test, message) => {
      const refused = Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
      return test.run(
        message,
        withSource(test.context, () => Promise.reject(refused)),
      );
    },
  },
  {
    title: "a defect of ours",
    says: /^Page 0 of operations made no progress: it failed 3 times, the last time with INTERNAL\.$/,
    cause: "INTERNAL",
    passes: false,
    attempt: async (test, message) => {
      const defect = () => {
        throw new TypeError("a defect");
      };
      return test.run(message, { ...test.context, meter: { heapBytes: defect } });
    },
  },
  {
    title: "a function that is killed each time",
    says: /^Page 0 of operations made no progress: it was begun \d times, and the last function that took it was killed\.$/,
    cause: undefined,
    passes: false,
    attempt: async (test, message) => {
      const gate = new Gate(2);
      void test.run(message, gated(test.context, gate)).catch(() => undefined);
      await gate.reached;
      await test.target
        .admin`update public.sync_chains set lease_until = now() - interval '1 second' where id = ${message.chain}`;
      return undefined;
    },
  },
  {
    title: "messages that no function takes",
    says: /^Page 0 of operations made no progress: it was sent \d times and not begun\.$/,
    cause: undefined,
    passes: true,
    attempt: async (test, message) => {
      await test.target.admin`alter table public.sync_chains disable trigger note_progress`;
      await test.target
        .admin`update public.sync_chains set moved_at = moved_at - make_interval(mins => ${MINUTES}), unclaimed = unclaimed + 1 where id = ${message.chain}`;
      await test.target
        .admin`update public.sync_chains set moved_at = moved_at - make_interval(mins => ${MINUTES}) where id <> ${message.chain}`;
      await test.target
        .admin`update public.sync_executions set started_at = started_at - make_interval(mins => ${MINUTES}) where status = 'running'`;
      await test.target.admin`alter table public.sync_chains enable trigger note_progress`;
      return undefined;
    },
  },
];

it.each(hindrances.flatMap((hindrance) => [false, true].map((dryRun) => ({ ...hindrance, dryRun }))))(
  "$title ends its chain alone, keeps the rest, tells why, and blocks nobody (dry run: $dryRun)",
  async ({ says, cause, passes, attempt, dryRun }) => {
    await using test = await createPipeline({
      env: { ISTHMUS_PAGE_TRIES: String(TRIES), ISTHMUS_STALLED_MINUTES: String(MINUTES) },
    });
    await using cli = await commandLine(test);
    await test.seed.office(1);
    await test.seed.operation(1);
    const { execution } = await test.start({ entities: ["offices", "operations"], dryRun });
    await test.runJoins();
    const hindered = await chainOf(test, execution, "operations");
    let tries = 0;
    // Bounded: what has no end would run into this.
    for (; tries < 5 * TRIES && (await test.status(execution)).status === "running"; tries++) {
      for (let message = test.queue.shift(); message; message = test.queue.shift()) {
        if (message.chain === hindered) await attempt(test, message);
        else await test.run(message);
      }
      await test.target.admin`update public.sync_chains set due_at = now() where state = 'open' and lease_until is null`;
      await test.target.admin`update public.sync_chains set due_at = now() where state = 'open' and lease_until < now()`;
      await tick(test.context);
    }
    expect(tries).toBeLessThan(5 * TRIES);

    // It ends, and tells why where people and schedulers look.
    const { status, errors } = await test.status(execution);
    expect({ status, errors }).toMatchObject({
      status: "failed",
      errors: [{ code: "PAGE_STALLED", entity: "operations", passes }],
    });
    const [error] = errors as unknown as readonly { message: string; remedy: string; cause?: { code: string } }[];
    expect(error?.message).toMatch(says);
    expect(error?.cause?.code).toBe(cause);
    expect(error?.remedy).toMatch(/\w.* Then start again: what was committed stays\./);
    const unexpected = cause === "INTERNAL" ? ["internal_error operations"] : [];
    expect(await openAlerts(test)).toEqual(dryRun ? [] : ["execution_failed", ...unexpected, "page_stalled operations"]);
    const shown = await cli.run("status", execution);
    expect(shown.code).toBe(1);
    expect(shown.out).toContain(`\nPAGE_STALLED: operations: ${error?.message ?? ""}\n  What to do: ${error?.remedy ?? ""}\n`);

    // It keeps what it has, and blocks nobody: the next execution of the same entities goes on, and both alerts close.
    expect((await test.target.admin`select from public.offices`).length).toBe(dryRun ? 0 : 1);
    await test.sync({ entities: ["offices", "operations"] });
    expect((await test.target.admin`select from public.operations`).length).toBe(1);
    expect(await openAlerts(test)).toEqual([]);
  },
);

async function chainOf(test: Pipeline, execution: string, entity: string): Promise<string> {
  const [row] = await test.target.admin<{ id: string }[]>`
    select c.id from public.sync_chains c join public.sync_entities e on e.id = c.entity_id
     where c.execution_id = ${execution} and e.entity_type = ${entity} and c.capture = 'full'`;
  if (!row) throw new Error(`no chain of ${entity}`);
  return row.id;
}

async function openAlerts(test: Pipeline): Promise<string[]> {
  const rows = await test.target.admin<{ alert: string }[]>`
    select concat_ws(' ', a.kind, e.entity_type) as alert from public.sync_alerts a left join public.sync_entities e on e.id = a.entity_id
     where a.closed_at is null and a.kind <> 'contract_warning' order by 1`;
  return rows.map(({ alert }) => alert);
}

/** The same context, whose source answers every statement like this. */
function withSource(context: Context, answer: () => Promise<never>): Context {
  return { ...context, source: { unsafe: answer, begin: answer } as unknown as Context["source"] };
}

/** The command line, over HTTP to the functions in this process. */
async function commandLine(test: Pipeline) {
  const functions = createFunctions({
    SOURCE_DB_URL: readerUrl(test.source),
    TARGET_DB_URL: workerUrl(test.target),
    ISTHMUS_POOL_SIZE: "1",
    ISTHMUS_IDLE_TIMEOUT_SECONDS: "1",
  });
  const server = createServer((request, response) => {
    const query = /\?.*$/.exec(request.url ?? "")?.[0] ?? "";
    void functions
      .call("sync-trigger", { method: request.method ?? "GET", headers: { apikey: SECRET_KEY }, query })
      .then(async (answer) => response.writeHead(answer.status).end(await answer.text()));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const env = {
    FUNCTIONS_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ISTHMUS_API_KEY: SECRET_KEY,
  };
  return {
    run: async (...args: string[]) => {
      let out = "";
      const write = (text: string) => void (out += text);
      const code = await runSyncCli(args, { env, out: write, err: write, interactive: false, pause: () => Promise.resolve() });
      return { code, out };
    },
    [Symbol.asyncDispose]: () =>
      new Promise<void>((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
}
