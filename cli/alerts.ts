import { query, queryOne } from "../shared/db/query.ts";
import { onTarget } from "./on-target.ts";
import { formatTable } from "./output.ts";
import { Problem } from "./problem.ts";
import { redirectAdvice, type Redirected } from "./redirects.ts";
import type { Environment } from "./settings.ts";

export interface OpenAlert {
  readonly severity: string;
  readonly kind: string;
  readonly entity: string | null;
  readonly since: string;
  readonly occurrences: number;
  readonly acknowledgedBy: string | null;
  readonly message: string;
  readonly remedy: string;
}

/** What is open, the worst first, read over TARGET_DB_URL. */
export async function readAlerts(env: Environment): Promise<readonly OpenAlert[]> {
  return onTarget(env, (target) =>
    query<OpenAlert>(
      target,
      "target",
      `select a.severity, a.kind, e.entity_type as entity, to_char(a.first_seen_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') as since,
              a.occurrences, a.acknowledged_by as "acknowledgedBy", a.message, a.remedy
         from public.sync_alerts a left join public.sync_entities e on e.id = a.entity_id
        where a.closed_at is null order by a.severity, a.first_seen_at, a.id`,
    ),
  );
}

/** The alerts as a table, and below it what each says and what to do. */
export function showAlerts(alerts: readonly OpenAlert[], clock: (iso: string) => string): string {
  if (alerts.length === 0) return "No alert is open.\n";
  const rows = alerts.map((one) => [
    one.severity,
    one.kind,
    one.entity ?? "-",
    clock(one.since),
    one.occurrences,
    one.acknowledgedBy ?? "-",
  ]);
  const reasons = alerts.map(
    ({ kind, entity, message, remedy }) =>
      `${kind}${entity === null ? "" : ` ${entity}`}: ${message}\n${remedy === "" ? "" : `  What to do: ${remedy}\n`}`,
  );
  return [formatTable(["severity", "alert", "entity", "since", "times", "acknowledged by"], rows), ...reasons].join("");
}

/** What became of a test message: to which address, whether it was answered (delivered), and why it did not arrive. */
export interface TestedAddress {
  readonly address: "first" | "second";
  readonly status: "waiting" | "sent" | "delivered" | "failed" | "dropped";
  readonly statusCode: number | null;
  readonly error: string | null;
}

/** The job looks each minute, and reads the answer with its next look. */
const PATIENCE_MS = 180_000;
const PAUSE_MS = 1_000;

/**
 * Has a test message sent to both addresses, and waits until each was answered, was dropped, or has failed once.
 * @throws Problem when nobody has tried within three minutes: the job isthmus-deliver-alerts does not run.
 */
export async function testAlerts(
  env: Environment,
  { patienceMs = PATIENCE_MS, pauseMs = PAUSE_MS } = {},
): Promise<readonly TestedAddress[]> {
  return onTarget(env, async (target) => {
    const { ids } = await queryOne<{ ids: string }>(
      target,
      "target",
      "select coalesce(pg_catalog.json_agg(t.id), '[]')::text as ids from sync.test_alert() t (id)",
      [],
    );
    for (const until = Date.now() + patienceMs; ;) {
      const tested = await query<TestedAddress>(
        target,
        "target",
        `select slot as address, status, status_code as "statusCode", last_error as error from public.sync_alert_deliveries
          where id in (select jsonb_array_elements_text($1::text::jsonb)::uuid) order by slot`,
        [ids],
      );
      if (tested.every(({ status, error }) => status !== "sent" && (status !== "waiting" || error !== null))) return tested;
      if (Date.now() >= until)
        throw new Problem(
          "TEST_UNDELIVERED",
          "Nobody has sent the test messages within three minutes.",
          "Does the job isthmus-deliver-alerts run (Cron page), and does the project have pg_net and Vault? The messages stay in sync_alert_deliveries.",
        );
      await new Promise((later) => setTimeout(later, pauseMs));
    }
  });
}

/** What answered to the test, and where it did not arrive. That the message is there, only a person can see. */
export function showTested(tested: readonly TestedAddress[], redirected: readonly Redirected[] = []): string {
  const answers = tested.map(({ address, status, statusCode, error }) =>
    status === "delivered"
      ? `The ${address} address answered the test message with status ${statusCode ?? 200}. Look whether the message is there: pg_net follows redirects, and a page that only answers looks the same.\n`
      : `The ${address} address has no test message: ${error ?? status}.\n`,
  );
  return [...answers, ...redirected.map((one) => `${redirectAdvice(one)}\n`)].join("");
}
