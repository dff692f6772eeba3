import type { z } from "zod";
import { describeIssues, fieldName, IsthmusError } from "../errors.ts";
import { parseJson } from "./respond.ts";

/** Parses a body by a schema. @throws IsthmusError REQUEST_INVALID naming the fields. */
export function parseBody<Schema extends z.ZodType>(schema: Schema, body: string): z.output<Schema> {
  const result = schema.safeParse(parseJson(body));
  if (result.success) return result.data;
  throw new IsthmusError("REQUEST_INVALID", describeIssues(result.error.issues), {
    detail: { fields: result.error.issues.map((issue) => fieldName(issue.path)) },
  });
}
