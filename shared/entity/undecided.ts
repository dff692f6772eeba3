// What an entity file leaves open: a proposal that was made from a catalog does not know what values mean.

const MARK = "undecided:";
/** A mark that stands within another text. */
const MARKS = /undecided:(\{"question":"(?:[^"\\]|\\.)*","columns":\[[^\]]*\]\})/g;
/** A call that a function would make for every row, compiled in whatever way. */
const CALLS = /\bundecided\)?\s*\(\s*("(?:[^"\\]|\\.)*")?/g;

/** A question that somebody has to answer before anything is synced. */
export interface Question {
  readonly question: string;
  /** Columns of the projection that the answer will probably read. */
  readonly columns: readonly string[];
}

/**
 * Stands where a decision is missing, wherever that is: for a field or an option of one, the reason of an ignored
 * column, a time zone. Nothing starts before all are replaced. The compiler takes the result for anything.
 */
export function undecided(question: string, ...columns: string[]): never {
  return (MARK + JSON.stringify({ question, columns })) as never;
}

/** The question in such a place; undefined where there is a value. */
export function questionIn(value: unknown): Question | undefined {
  return typeof value === "string" && value.startsWith(MARK) ? (JSON.parse(value.slice(MARK.length)) as Question) : undefined;
}

/** The questions at any depth of a value: in texts, lists, objects, and functions that would ask. */
export function questionsWithin(value: unknown): Question[] {
  if (typeof value === "string") return [...value.matchAll(MARKS)].map(([, json = ""]) => JSON.parse(json) as Question);
  if (typeof value === "function")
    return [...String(value).matchAll(CALLS)].map(([, text]) => ({
      question: text === undefined ? "a function asks for it." : (JSON.parse(text) as string),
      columns: [],
    }));
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap((part: unknown) => questionsWithin(part));
}
