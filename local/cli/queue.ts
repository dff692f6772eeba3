import { z } from "zod";
import { connect } from "../../shared/db/connect.ts";
import { query } from "../../shared/db/query.ts";
import { Problem } from "./problem.ts";
import { required, type Environment } from "./settings.ts";

export interface QueueLine {
  readonly entity: string;
  readonly state: "waiting" | "open";
  readonly rule: string;
  readonly count: number;
  readonly oldest: string;
  readonly remedy: string;
}

const tls = z.enum(["verify-full", "require", "disable"]).default("require");

/** What is in the queue, by entity, state and rule, read over TARGET_DB_URL. */
export async function readQueue(env: Environment): Promise<readonly QueueLine[]> {
  const url = required(env, "TARGET_DB_URL", "It is the target's address as isthmus_worker (Connect, Transaction pooler).");
  const mode = tls.safeParse(env["TARGET_DB_TLS"] === "" ? undefined : env["TARGET_DB_TLS"]);
  if (!URL.canParse(url) || !mode.success) {
    throw new Problem(
      "CONFIG_INVALID",
      "TARGET_DB_URL or TARGET_DB_TLS is malformed.",
      "docs/deployment.md lists what each may be.",
      {
        exitCode: 2,
      },
    );
  }
  const target = connect({
    url,
    tls: mode.data,
    ca: env["TARGET_DB_CA"] === "" ? undefined : env["TARGET_DB_CA"],
    poolSize: 1,
    idleTimeoutSeconds: 5,
    connectTimeoutSeconds: 15,
    applicationName: "isthmus-cli",
  });
  try {
    return await query<QueueLine>(
      target,
      "target",
      `select entity_type as entity, state::text as state, rule, count(*)::int as count,
              to_char(min(first_seen_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') as oldest, min(remedy) as remedy
         from public.sync_conflicts
        where state in ('waiting', 'open')
        group by entity_type, sync_conflicts.state, rule
        order by entity_type, sync_conflicts.state, count(*) desc, rule`,
    );
  } finally {
    await target.end({ timeout: 5 });
  }
}
