import postgres, { type Sql, type TransactionSql } from "postgres";
import { send, type Answer, type QueuedRequest } from "./request.ts";

export interface NetWorkerOptions {
  /** The database with net.sql in it, as the cluster's superuser. */
  readonly url: string;
  readonly batchSize?: number;
  /** How long answers are kept. */
  readonly ttl?: string;
  /** Between batches, as pg_net waits so as not to use too much CPU. */
  readonly pauseMs?: number;
}

export interface NetWorker {
  /** As a worker that was killed: what it was sending is in the queue again. */
  stop(): Promise<void>;
}

/**
 * pg_net's background worker: woken by commits, it takes a batch out of the queue, sends all of it at once, and
 * writes the answers, in one transaction. So the next batch waits for the slowest answer of this one, nobody sees an
 * answer before, every `created` is the batch's beginning, and a batch that is cut off is sent again.
 */
export async function startNetWorker({
  url,
  batchSize = 200,
  ttl = "6 hours",
  pauseMs = 1_000,
}: NetWorkerOptions): Promise<NetWorker> {
  const connection = { application_name: "pg_net 0.20.0" };
  const sql = postgres(url, { max: 1, onnotice: () => undefined, connection, fetch_types: false });
  const ended = new AbortController();
  // A worker that begins looks at once whether something is left.
  let woken = true;
  let wake: () => void = () => undefined;
  const listener = postgres(url, { max: 1, onnotice: () => undefined, connection, fetch_types: false });
  await listener.listen("pg_net", () => {
    woken = true;
    wake();
  });
  const stopped = new Promise<never>((_, end) => ended.signal.addEventListener("abort", () => end(new Error("stopped"))));
  stopped.catch(() => undefined);

  const work = async () => {
    for (;;) {
      woken = false;
      let busy = true;
      while (busy) {
        const expired = await expire(sql, ttl, batchSize);
        const sent = await sql.begin((tx) => sendBatch(tx, batchSize, stopped));
        busy = sent + expired > 0;
        await Promise.race([new Promise((again) => setTimeout(again, pauseMs).unref()), stopped]);
      }
      if (!woken) await Promise.race([new Promise<void>((now) => (wake = now)), stopped]);
    }
  };
  // A server that is gone ends it too; PostgreSQL starts its workers again, and so does whoever restarts the server
  // here.
  const working = work().catch(() => undefined);
  return {
    stop: async () => {
      ended.abort();
      await Promise.all([sql.end({ timeout: 0 }), listener.end({ timeout: 0 })]);
      await working;
    },
  };
}

async function expire(sql: Sql, ttl: string, batchSize: number): Promise<number> {
  const gone = await sql`
    delete from net._http_response r using (select ctid from net._http_response where created < now() - ${ttl}::interval order by created limit ${batchSize}) old
     where r.ctid = old.ctid`;
  return gone.count;
}

async function sendBatch(tx: TransactionSql, batchSize: number, stopped: Promise<never>): Promise<number> {
  const batch = await tx<(QueuedRequest & { headers: string | null })[]>`
    delete from net.http_request_queue q using (select id from net.http_request_queue order by id limit ${batchSize}) first where q.id = first.id
    returning q.id::text, q.method::text, q.url, q.headers::text, q.body, q.timeout_milliseconds`;
  const answers = await Promise.race([Promise.all(batch.map((row) => send({ ...row, headers: parsed(row.headers) }))), stopped]);
  for (const answer of answers) await keep(tx, answer);
  return batch.length;
}

const parsed = (headers: string | null) => (headers === null ? null : (JSON.parse(headers) as Record<string, string>));

async function keep(tx: TransactionSql, answer: Answer): Promise<void> {
  await tx`
    insert into net._http_response (id, status_code, content_type, headers, content, timed_out, error_msg)
    values (${answer.id}, ${answer.status_code}, ${answer.content_type}, ${answer.headers === null ? null : JSON.stringify(answer.headers)}::text::jsonb, ${answer.content}, ${answer.timed_out}, ${answer.error_msg})`;
}
