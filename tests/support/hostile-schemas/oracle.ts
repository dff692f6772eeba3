import { isObject, same, type Json, type JsonObject } from "../json-merge.ts";
import type { Sql } from "postgres";
import type { HostileColumn, HostileSchema, HostileTable } from "./schema.ts";
import { saySame, sourceRows, targetRows, type Row, type Rows } from "./sides.ts";

/** What somebody wrote into a field of the target, and what the source had said there when a run looked last. */
export interface Edit {
  readonly wrote: string | null;
  readonly seen: string | null;
  /** What stood there before. */
  readonly held: string | null;
  /** What the source said when both sides last said the same of it, if they ever did. */
  readonly together?: string | null;
  /** Since then DDL or a trigger may have made something else of it. */
  readonly disturbed?: true;
  /** It has stayed although the source has changed the field. */
  readonly agreed?: true;
}
/** By record and number of the field. */
export type Edits = ReadonlyMap<string, ReadonlyMap<number, Edit>>;

/** What is known of a table's history beside its rows. */
export interface Told {
  /** The last execution left its entity out, and said so. */
  readonly leftOut: boolean;
  /** The same of what its references lead to. */
  readonly parents: readonly Pick<Told, "leftOut" | "deleted">[];
  readonly edits: Edits;
  /** Rows that somebody deleted from the target. */
  readonly deleted: ReadonlySet<string>;
  /** The last execution, which was a digest; undefined: it was refused. */
  readonly execution: string | undefined;
}

export interface Verdict {
  readonly records: number;
  readonly equal: number;
  /** Records that differ, and somebody was told why. */
  readonly told: number;
  /** What differs without a word. */
  readonly silent: readonly string[];
}

interface Queue {
  /** Records of which something as a whole is told. */
  readonly whole: ReadonlySet<string>;
  /** `record field` */
  readonly fields: ReadonlySet<string>;
  /** Records whose rows a decision keeps. */
  readonly kept: ReadonlySet<string>;
  /** Records of which the queue has ever had an entry. */
  readonly ever: ReadonlySet<string>;
  /** By record, what the queue has ever said of it, by rule. */
  readonly said: readonly (readonly [id: string, rule: string])[];
}

/** Compares every source record with every target row, and asks of what differs who was told. */
export async function judge(there: Sql, here: Sql, schema: HostileSchema, table: HostileTable, told: Told): Promise<Verdict> {
  const rows = await Promise.all([sourceRows(there, table), targetRows(here, schema, table)]).catch((error: unknown) => {
    // What is left out may lack a column.
    if (told.leftOut && (error as { code?: string }).code === "42703") return undefined;
    throw error;
  });
  if (!rows) return { records: table.ids.length, equal: 0, told: table.ids.length, silent: [] };
  const [source, target] = rows;
  const differing = await differences(here, table, source, target);
  const queue = await queueOf(here, table, told.execution);
  const asSeen = await unchanged(here, table, told.edits, source);
  const silent: string[] = [];
  let [equal, explained] = [0, 0];
  for (const id of new Set([...source.keys(), ...target.keys()])) {
    const found = differing.get(id);
    if (!found) {
      equal += 1;
      continue;
    }
    // Whether somebody was told of a parent's row that is gone is asked where the parent is judged.
    const waits = (at: number) => {
      const parent = told.parents[at - table.columns.length];
      const lost = parent?.leftOut === true || parent?.deleted.has(source.get(id)?.[at] ?? "") === true;
      return lost && target.get(id)?.[at] === "nobody";
    };
    const left =
      told.leftOut || queue.whole.has(id)
        ? []
        : found.filter((at) => !waits(at) && !excused(table, told, queue, { id, at, source, target, asSeen }));
    if (left.length === 0) explained += 1;
    for (const at of left) silent.push(`${table.entity} ${id}: ${describe(table, at, source.get(id), target.get(id))}`);
  }
  silent.push(...untrueWords(table, told, queue));
  silent.push(...lostEdits(table, told, queue, { source, target, asSeen }, differing));
  silent.push(...(await unkeptEdits(here, table, told, queue, { source, target, asSeen })));
  return { records: source.size, equal, told: explained, silent };
}

async function unchanged(here: Sql, table: HostileTable, edits: Edits, source: Rows): Promise<Set<string>> {
  const found = new Set<string>();
  const doubtful: { readonly key: string; readonly pair: readonly [string, string, string] }[] = [];
  for (const [id, fields] of edits) {
    for (const [at, { seen, together }] of fields) {
      const column = table.columns[at];
      // What was refused or asked about since then the sync has not taken up.
      if (together !== undefined && (source.get(id)?.[at] ?? null) === together) found.add(`${id} ${at}`);
      const [was, is] = [expectedOf(column, seen), expectedOf(column, source.get(id)?.[at] ?? null)];
      if (was === is) found.add(`${id} ${at}`);
      else if (was != null && is != null && column) doubtful.push({ key: `${id} ${at}`, pair: [was, is, column.pair.as] });
    }
  }
  const same = await saySame(
    here,
    doubtful.map(({ pair }) => pair),
  );
  for (const [n, { key }] of doubtful.entries()) if (same[n]) found.add(key);
  return found;
}

/** A row that only one side has. */
const WHOLE = -1;

interface Sides {
  readonly source: Rows;
  readonly target: Rows;
  /** `record field`: what the source says of an edited field is what it said before the edit, or when both sides last said the same. */
  readonly asSeen: ReadonlySet<string>;
}
interface Place extends Sides {
  readonly id: string;
  readonly at: number;
}

function excused(
  table: HostileTable,
  { edits, deleted }: Told,
  queue: Queue,
  { id, at, source, target, asSeen }: Place,
): boolean {
  if (at === WHOLE) {
    if (!source.has(id) && queue.kept.has(id)) return true;
    if (!source.has(id))
      return table.onDelete === "ignore" || (typeof table.onDelete === "object" && isMarked(table, target.get(id)));
    return deleted.has(id) && table.deleted === "target_wins";
  }
  if (queue.fields.has(`${id} ${nameAt(table, at)}`)) return true;
  const edit = edits.get(id)?.get(at);
  if (!edit) return false;
  // The source may have said something that does not fit meanwhile: what the row held is what the sync knows.
  const says = source.get(id)?.[at] ?? null;
  const asHeld = (expectedOf(table.columns[at], says) ?? null) === edit.held;
  if (table.strategy === "merge" && isMerged(target.get(id)?.[at] ?? null, edit.wrote, says)) return true;
  return target.get(id)?.[at] === edit.wrote && (asHeld || asSeen.has(`${id} ${at}`));
}

/** An object that has each key of the source's, and besides only what the edit wrote: nobody needs to be asked (docs/conflicts.md). */
function isMerged(row: string | null, wrote: string | null, says: string | null): boolean {
  const [here, edit, there] = [row, wrote, says].map(objectOf);
  if (!here || !edit || !there) return false;
  const takes = (key: string) => [edit, there].some((side) => Object.hasOwn(side, key) && same(here[key], side[key]));
  return Object.keys(here).every(takes) && Object.keys(there).every((key) => Object.hasOwn(here, key));
}

function objectOf(text: string | null): JsonObject | undefined {
  try {
    const value = JSON.parse(text ?? "") as Json;
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** What is told has to be true: a person who looks for who deleted a row, or for a trigger, has to find them. */
function untrueWords(table: HostileTable, { deleted }: Told, { said }: Queue): string[] {
  const cancels = table.triggers.some(({ does }) => does === "cancels");
  return said.flatMap(([id, rule]) => {
    if (rule === "target_deleted" && !deleted.has(id))
      return [`${table.entity} ${id}: its row is said to have been deleted, and nobody did that`];
    if (rule === "write_cancelled" && !cancels)
      return [`${table.entity} ${id}: its write is said to have been cancelled, and no trigger does that`];
    return [];
  });
}

function isMarked(table: HostileTable, row: Row | undefined): boolean {
  const marks = typeof table.onDelete === "object" ? table.onDelete.soft : {};
  return Object.entries(marks).every(([name, mark]) => row?.[table.columns.findIndex(({ target }) => target === name)] === mark);
}

/** An edit whose field the source has not changed is there, or the queue says what became of it. */
function lostEdits(
  table: HostileTable,
  { edits, leftOut }: Told,
  queue: Queue,
  { source, target, asSeen }: Sides,
  differing: ReadonlyMap<string, readonly number[]>,
): string[] {
  if (leftOut || table.triggers.length > 0) return [];
  const lost: string[] = [];
  for (const [id, fields] of edits) {
    const [there, here] = [source.get(id), target.get(id)];
    if (!there || !here || queue.ever.has(id)) continue;
    for (const [at, { wrote, disturbed }] of fields) {
      if (disturbed || !asSeen.has(`${id} ${at}`) || here[at] === wrote) continue;
      if (differing.get(id)?.includes(at)) continue;
      lost.push(
        `${table.entity} ${id}: the edit ${JSON.stringify(wrote)} of ${nameAt(table, at)} is gone: ${JSON.stringify(here[at])}`,
      );
    }
  }
  return lost;
}

/** What the source's next value has overwritten is in the queue, under whatever policy. */
async function unkeptEdits(
  here: Sql,
  table: HostileTable,
  { edits, leftOut }: Told,
  queue: Queue,
  { source, target, asSeen }: Sides,
): Promise<string[]> {
  if (leftOut || table.triggers.length > 0) return [];
  const gone: { readonly text: string; readonly pair: readonly [string, string, string] }[] = [];
  for (const [id, fields] of edits) {
    const row = target.get(id);
    if (!row || !source.has(id) || queue.ever.has(id)) continue;
    for (const [at, { wrote, seen, disturbed, agreed }] of fields) {
      const column = table.columns[at];
      if (disturbed || agreed || !column || asSeen.has(`${id} ${at}`) || row[at] === wrote || (wrote ?? "null") === "null")
        continue;
      const text = `${table.entity} ${id}: the edit ${JSON.stringify(wrote)} of ${nameAt(table, at)} was overwritten by ${JSON.stringify(row[at])}, and nothing keeps it`;
      // Who writes what stood there has edited nothing.
      gone.push({ text, pair: [expectedOf(column, seen) ?? "", wrote ?? "", column.pair.as] });
    }
  }
  const same = await saySame(
    here,
    gone.map(({ pair }) => pair),
  );
  return gone.flatMap(({ text }, n) => (same[n] ? [] : [text]));
}

const nameAt = (table: HostileTable, at: number) => [...table.columns, ...table.references][at]?.target ?? "";

function describe(table: HostileTable, at: number, there: Row | undefined, here: Row | undefined): string {
  if (at === WHOLE) return there ? "there is no row" : "its row is still there";
  const pair = table.columns[at]?.pair;
  return `${JSON.stringify(nameAt(table, at))} (${pair ? `${pair.source} → ${pair.target}` : "a reference"}) is ${JSON.stringify(here?.[at])}, and the source says ${JSON.stringify(there?.[at])}`;
}

/** Record → the fields in which both sides differ. */
async function differences(here: Sql, table: HostileTable, source: Rows, target: Rows): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  const doubtful: { readonly id: string; readonly at: number; readonly pair: readonly [string, string, string] }[] = [];
  const differ = (id: string, at: number) => found.set(id, [...(found.get(id) ?? []), at]);
  for (const id of new Set([...source.keys(), ...target.keys()])) {
    const [one, other] = [source.get(id), target.get(id)];
    if (!one || !other) {
      differ(id, WHOLE);
      continue;
    }
    for (const [at, said] of one.entries()) {
      const column = table.columns[at];
      const wanted = expectedOf(column, said);
      const is = other[at] ?? null;
      if (wanted === is) continue;
      if (wanted === undefined || wanted === null || is === null || !column) differ(id, at);
      else doubtful.push({ id, at, pair: [wanted, is, column.pair.as] });
    }
  }
  const same = await saySame(
    here,
    doubtful.map(({ pair }) => pair),
  );
  for (const [n, { id, at }] of doubtful.entries()) if (!same[n]) differ(id, at);
  return found;
}

export function expectedOf(column: HostileColumn | undefined, said: string | null): string | null | undefined {
  return column?.pair.expected ? column.pair.expected(said) : said;
}

async function queueOf(here: Sql, { entity, triggers }: HostileTable, execution: string | undefined): Promise<Queue> {
  const rows = await here<
    { id: string; field: string | null; rule: string; state: string; strategy: string | null; standing: boolean }[]
  >`
    select source_record_id::text as id, field, rule, state::text, resolution_strategy::text as strategy, standing
      from public.sync_conflicts where entity_type = ${entity}`;
  const warnings = await here<{ id: string; field: string }[]>`
    select w.legacy_id::text as id, substr(w.rule, 20) as field
      from public.sync_warnings w join public.sync_entities e on e.id = w.entity_id
     where e.entity_type = ${entity} and w.rule like 'written\\_otherwise: %'`;
  const [report] = await here<{ edited: string[] | null }[]>`
    select array(select jsonb_array_elements_text(body #> '{edited,legacy_ids}')) as edited
      from public.sync_reports where execution_id = ${execution ?? null} and kind = ${`digest:${entity}`}`;
  const [kept] = await here<
    { history: string }[]
  >`select history::text from public.sync_entities where entity_type = ${entity}`.catch(() => []);
  const [whole, fields, stays] = [new Set<string>(), new Set<string>(), new Set<string>()];
  for (const { id, field, rule, state, strategy, standing } of rows) {
    const live = state === "open" || state === "waiting";
    const byField = rule === "both_changed" && field !== null;
    if (standing || (live && !byField)) whole.add(id);
    if (!byField && state === "resolved" && strategy === "target_wins") stays.add(id);
    if (byField && (live || (state === "resolved" && (strategy === "target_wins" || strategy === "merge"))))
      for (const name of namesIn(field)) fields.add(`${id} ${name}`);
  }
  // Only a trigger makes another value of what was written: what the column itself cuts or rounds belongs in the
  // queue.
  const altered = new Set(triggers.flatMap((trigger) => (trigger.does === "alters" ? [trigger.column] : [])));
  for (const { id, field } of warnings) if (altered.has(field)) fields.add(`${id} ${field}`);
  // Of hashes nobody knows which field it was.
  if (kept?.history === "hashes") for (const id of report?.edited ?? []) whole.add(id);
  return { whole, fields, kept: stays, ever: new Set(rows.map(({ id }) => id)), said: rows.map(({ id, rule }) => [id, rule]) };
}

/** The names of a list as the queue shows it: those that would part it are in quotes. */
function namesIn(list: string): string[] {
  return [...list.matchAll(/(?:"((?:[^"]|"")*)"|([^,]+))(?:, |$)/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? "",
  );
}
