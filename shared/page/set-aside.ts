import type { Entity } from "../entity/define-entity.ts";
import { describeError } from "../errors.ts";
import type { Issue } from "../target/pages.ts";

/** A record that the source cannot compute, as an entry of the queue. */
export function refusedIssue(entity: Entity, id: string, sqlstate: string, column: string | null): Issue {
  const field = column === null ? null : fieldOf(entity, column);
  return {
    k: id,
    state: "open",
    type: "schema_mismatch",
    field,
    rule: `source_${sqlstate}`,
    remedy: `The source cannot compute ${column === null ? "this record" : `the column ${column} of this record`} (SQLSTATE ${sqlstate}): correct the record in the source, or the expression in the entity file.`,
    data: { sqlstate, ...(column === null ? {} : { column }) },
  };
}

/** The fields that a column of the projection feeds. */
function fieldOf({ fields }: Entity, column: string): string {
  const names = Object.entries(fields).flatMap(([name, field]) => (field.columns.includes(column) ? [name] : []));
  return names.join(", ") || column;
}

/** Why a record that was alone on its page goes to the queue. */
export type Overweight =
  | { readonly by: "bytes"; readonly bytes: number; readonly most: number }
  | { readonly by: "crash" }
  | { readonly by: "time" | "memory" | "record"; readonly error: unknown };

/** A record that a page cannot carry even when it is alone there, as an entry of the queue. `bytes`: its size, where it is known. */
export function overweightIssue(id: string, why: Overweight, bytes: number | undefined): Issue {
  const size = bytes === undefined ? {} : { bytes };
  const told = "error" in why ? describeError(why.error) : undefined;
  const sqlstate = typeof told?.["sqlstate"] === "string" ? told["sqlstate"] : "none";
  const at = told === undefined ? "" : ` (${told.code}, SQLSTATE ${sqlstate})`;
  const limit = told === undefined ? {} : { limit: told.code, sqlstate };
  switch (why.by) {
    case "bytes":
      return issue(id, "record_too_large", { ...size, most_bytes: why.most }, "source",
        `The record has ${why.bytes} bytes as text, and a page can carry ${why.most}: shorten it in the source, or leave the large column out of the entity file.`); // prettier-ignore
    case "crash":
      return issue(id, "record_too_large", size, "target",
        "The worker was killed twice while this record was alone on its page, most likely for its memory: shorten the record in the source, or leave the large column out of the entity file. It is tried again by itself."); // prettier-ignore
    case "memory":
      return issue(id, "record_too_large", { ...size, ...limit }, "target",
        `A limit of size ended the page of this one record${at}: raise that limit, or shorten the record in the source. It is tried again by itself.`); // prettier-ignore
    case "time":
      return issue(id, "time_limit", { ...size, ...limit }, "target",
        `A time limit ended the page of this one record${at}: raise that limit, or see what holds the record up, such as a trigger, or a lock on its target row. It is tried again by itself.`); // prettier-ignore
    case "record":
      return issue(id, `target_${sqlstate}`, { ...size, ...limit }, "target",
        `The target refuses the page of this one record${at}: correct the record in the source, or what refuses it in the target. It is tried again by itself.`); // prettier-ignore
  }
}

function issue(k: string, rule: string, data: Issue["data"], retry: "source" | "target", remedy: string): Issue {
  return { k, state: "open", type: "schema_mismatch", field: null, rule, retry, remedy, data };
}
