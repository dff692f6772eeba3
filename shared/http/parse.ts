import type { z } from "zod";
import { IsthmusError } from "../errors.ts";
import { parseJson } from "./respond.ts";

/** Parses a body by a schema. @throws IsthmusError REQUEST_INVALID naming the fields. */
export function parseBody<Schema extends z.ZodType>(schema: Schema, body: string): z.output<Schema> {
  const result = schema.safeParse(parseJson(body));
  if (result.success) return result.data;
  throw new IsthmusError("REQUEST_INVALID", describe(result.error), {
    detail: { fields: result.error.issues.map((issue) => issue.path.join(".")) },
  });
}

function describe(error: z.ZodError): string {
  return error.issues
    .map((issue) => (issue.path.length > 0 ? `${issue.path.join(".")}: ${issue.message}` : issue.message))
    .join("; ");
}
