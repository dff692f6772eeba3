import type { z } from "zod";
import { describeIssues, fieldsOf, IsthmusError } from "../errors.ts";
import { repeatedKey } from "./repeated-key.ts";

/** Parses a body by a schema; '' is an empty object. @throws IsthmusError REQUEST_INVALID naming the fields. */
export function parseBody<Schema extends z.ZodType>(schema: Schema, body: string): z.output<Schema> {
  const result = schema.safeParse(parseJson(body));
  if (result.success) return result.data;
  const { issues } = result.error;
  throw new IsthmusError("REQUEST_INVALID", describeIssues(issues), { detail: { fields: fieldsOf(issues) } });
}

/** Parses a JSON body; an empty one is an empty object. @throws IsthmusError REQUEST_INVALID, for a key that stands twice too. */
export function parseJson(body: string): unknown {
  if (body.trim() === "") return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch (error) {
    throw new IsthmusError("REQUEST_INVALID", "The body is not JSON.", { cause: error });
  }
  const repeated = repeatedKey(body);
  if (repeated === undefined) return parsed;
  throw new IsthmusError("REQUEST_INVALID", `The body says ${JSON.stringify(repeated.slice(0, 60))} twice in one object.`);
}
