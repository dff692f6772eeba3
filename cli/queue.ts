import { query, queryOne } from "../shared/db/query.ts";
import { onTarget } from "./on-target.ts";
import type { Environment } from "./settings.ts";

export interface QueueLine {
  readonly entity: string;
  readonly state: "waiting" | "open";
  readonly rule: string;
  readonly count: number;
  readonly oldest: string;
  /** What is told of most of them: of records that wait, what keeps most of their parents. */
  readonly remedy: string;
}

/** What is in the queue, by entity, state and rule, read over TARGET_DB_URL. */
export async function readQueue(env: Environment): Promise<readonly QueueLine[]> {
  return onTarget(env, (target) =>
    query<QueueLine>(
      target,
      "target",
      `select entity_type as entity, state::text as state, rule, count(*)::int as count,
              to_char(min(first_seen_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') as oldest, mode() within group (order by remedy) as remedy
         from public.sync_conflicts
        where state in ('waiting', 'open')
        group by entity_type, sync_conflicts.state, rule
        order by entity_type, sync_conflicts.state, count(*) desc, rule`,
    ),
  );
}

export interface ReplaySelection {
  readonly entity?: string;
  readonly rule?: string;
  readonly type?: string;
}

/** Has records of the queue read again, all or some; returns how many. `dryRun`: only counts them. */
export async function replayQueue(env: Environment, { entity, rule, type }: ReplaySelection, dryRun: boolean): Promise<number> {
  const given = [entity ?? null, rule ?? null, type ?? null];
  const statement = dryRun
    ? `select count(*)::int as n from public.sync_conflicts
        where state in ('waiting', 'open') and entity_type = coalesce($1, entity_type) and rule = coalesce($2, rule)
          and conflict_type::text = coalesce($3, conflict_type::text)`
    : "select sync.replay($1, $2, $3::public.conflict_type_enum)::int as n";
  return (await onTarget(env, (target) => queryOne<{ n: number }>(target, "target", statement, given))).n;
}
