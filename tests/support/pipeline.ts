import type { PageMessage } from "../../shared/target/sending.ts";
import type { PageOutcome } from "../../shared/page/page-outcome.ts";
import { createInProcess, type InProcess } from "./in-process.ts";
import { createSeeds, type Seeds } from "./legacy-seeds.ts";

/** More pages than any of these small executions needs: one that goes on beyond would go on for ever. */
const ENDLESS = 300;

export interface Pipeline extends InProcess {
  readonly seed: Seeds;
  /** Runs one page: the given one, or the next in the queue. */
  runOne(message?: PageMessage): Promise<PageOutcome>;
  status(
    execution: string,
  ): Promise<{ status: string; errors: { code: string; entity?: string; legacy_ids?: string[] }[] | null }>;
  /** The live queue of an entity, by legacy id. */
  live(entity: string): Promise<LiveConflict[]>;
  /** Whether each committed page of the execution, and the execution itself, accounts for everything it read. */
  sums(execution: string): Promise<{ read: number; outcomes: number; processed: number; pages: number }>;
}

export interface LiveConflict {
  readonly id: number;
  readonly state: string;
  readonly type: string;
  readonly field: string | null;
  readonly rule: string;
  readonly remedy: string;
  readonly parent: string | null;
  readonly parentId: number | null;
}

/** The pipeline over two fresh databases with helpers that fill the source. A drain that never ends throws. */
export async function createPipeline(
  options: Pick<
    NonNullable<Parameters<typeof createInProcess>[0]>,
    "env" | "entities" | "installation" | "sourceUrl" | "targetUrl"
  > = {},
): Promise<Pipeline> {
  const base = await createInProcess(options);
  const { target, queue } = base;
  const runOne = (message = queue.shift()) => {
    if (!message) throw new Error("no page waits");
    return base.run(message);
  };
  const drain = async () => {
    const outcomes: PageOutcome[] = [];
    while (queue.length > 0) {
      if (outcomes.length >= ENDLESS) throw new Error(`still busy after ${ENDLESS} pages`);
      outcomes.push(await runOne());
    }
    return outcomes;
  };
  const status = async (execution: string) => {
    const [row] = await target.admin<Awaited<ReturnType<Pipeline["status"]>>[]>`
      select status, errors from public.sync_executions where id = ${execution}`;
    if (!row) throw new Error("no such execution");
    return { ...row };
  };
  return {
    ...base,
    seed: createSeeds(base.source.admin),
    runOne,
    drain,
    status,
    sync: async (request) => {
      const begun = await base.start(request);
      const outcomes = await drain();
      const ended = await status(begun.execution);
      if (ended.status !== (begun.paused.length > 0 ? "incomplete" : "succeeded")) {
        const failed = outcomes.filter((outcome) => outcome.outcome === "failed");
        throw new Error(`execution ${ended.status}: ${JSON.stringify(ended.errors)} ${JSON.stringify(failed)}`);
      }
      return begun;
    },
    live: async (entity) => [
      ...(await target.admin<LiveConflict[]>`
        select c.source_record_id::integer as id, c.state, c.conflict_type as type, c.field, c.rule, c.remedy,
               p.entity_type as parent, c.parent_legacy_id::integer as "parentId"
          from public.sync_conflicts c left join public.sync_entities p on p.id = c.parent_entity_id
         where c.entity_type = ${entity} and c.state in ('waiting', 'open') order by 1`),
    ],
    sums: async (execution) => {
      const [row] = await target.admin<{ read: number; outcomes: number; processed: number; pages: number }[]>`
        select coalesce(sum(l.read), 0)::integer as read,
               coalesce(sum(l.inserted + l.updated + l.unchanged + l.deleted + l.waiting + l.in_conflict + l.waived), 0)::integer as outcomes,
               (select records_processed::integer from public.sync_executions where id = ${execution}) as processed,
               count(*)::integer as pages
          from public.sync_page_log l where l.execution_id = ${execution}`;
      if (!row) throw new Error("no such execution");
      return { ...row };
    },
    [Symbol.asyncDispose]: () => base[Symbol.asyncDispose](),
  };
}
