import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";

/** What a person may say of a job, an execution, an entity or a chain. */
export const WORDS = ["pause", "resume", "cancel", "retry"] as const;
export type Word = (typeof WORDS)[number];
/** What it may be said of. */
export const KINDS = ["job", "execution", "entity", "chain"] as const;
export type Kind = (typeof KINDS)[number];

export interface Controlled {
  readonly what: Kind;
  readonly name: string;
  readonly word: Word;
  /** Executions that go on, or lost chains. */
  readonly executions: readonly string[];
  /** A page at work, or another execution, is in the way still: a tick carries it out. */
  readonly waits: boolean;
  /** Pages that may still commit; no other begins before what was paused is resumed. */
  readonly pagesAtWork: number;
}

/** Gives a word to a job or an entity (by name), an execution or a chain (by id). Null: there is none. @throws IsthmusError CONTROL_REFUSED. */
export async function control(
  target: Queryable,
  sourceId: number,
  asked: { readonly kind: Kind; readonly name: string; readonly word: Word; readonly by: string },
): Promise<Controlled | null> {
  const row = await queryOne<{ done: Controlled | null }>(
    target,
    "target",
    "select sync.control($1::integer::smallint, $2, $3, $4::text::public.sync_control, $5) as done",
    [sourceId, asked.kind, asked.name, asked.word, asked.by],
  );
  return row.done;
}

/** Carries out what people have said in the table editor, and closes what is left of cancelled executions. */
export async function carryOut(target: Queryable): Promise<void> {
  await query(target, "target", "select sync.apply_controls()");
}

/** Tells of what was paused so many hours ago, and has not been resumed. */
export async function tellPaused(target: Queryable, sourceId: number, hours: number): Promise<void> {
  await query(target, "target", "select sync.tell_paused($1::integer::smallint, $2::integer)", [sourceId, hours]);
}

/** The entities that people have paused, with who and since when. */
export async function pausedEntities(target: Queryable, sourceId: number): Promise<ReadonlyMap<string, string>> {
  const rows = await query<{ name: string; message: string }>(
    target,
    "target",
    "select name, message from sync.paused() where what = 'entity' and source_id = $1::integer",
    [sourceId],
  );
  return new Map(rows.map(({ name, message }) => [name, message]));
}

/** All that people have paused. */
export async function pausedThings(target: Queryable): Promise<Record<string, unknown>[]> {
  return query(target, "target", `select what, name, by, since, message from sync.paused() order by since`);
}
