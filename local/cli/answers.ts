import { z } from "zod";
import { Problem } from "./problem.ts";

const count = z.coerce.number();
const counts = z.object({
  read: count,
  inserted: count,
  updated: count,
  unchanged: count,
  deleted: count,
  waiting: count,
  inConflict: count,
  waived: count,
});
const entityState = z.object({
  entity: z.string(),
  capture: z.string().nullable(),
  /** Chains by state; null when the entity had nothing to do. */
  chains: z.record(z.string(), count).nullable(),
  counts,
});
/** What a dry run found for one entity. */
const planned = z.object({
  entity: z.string(),
  counts: z.object({ ...counts.shape, absent: count, surplus: count }),
  outcomes: z.array(
    z.object({
      outcome: z.string(),
      rule: z.string().nullable(),
      field: z.string().nullable(),
      count,
      remedy: z.string().nullable(),
      legacyIds: z.array(count),
    }),
  ),
  warnings: z.array(z.object({ rule: z.string(), count, legacyIds: z.array(count) })),
  money: z.record(z.string(), z.object({ inserted: z.string(), updated: z.string() })),
});
const finding = z.object({
  code: z.string(),
  severity: z.enum(["fatal", "warn"]),
  entity: z.string().nullable(),
  message: z.string(),
  remedy: z.string(),
});
const failure = z.looseObject({ code: z.string(), message: z.string(), remedy: z.string() });

export const executionState = z.object({
  execution: z.string(),
  status: z.enum(["running", "succeeded", "failed", "cancelled"]),
  dryRun: z.boolean(),
  /** What a dry run found, once it is through. */
  plan: z.object({ entities: z.array(planned) }).nullable(),
  triggeredBy: z.string(),
  startedAt: z.string(),
  completedAt: z.string().nullable(),
  errors: z.array(z.unknown()).nullable(),
  metrics: z.record(z.string(), z.number().nullable()).nullable(),
  entities: z.array(entityState).nullable(),
  queue: z.array(z.object({ entity: z.string(), state: z.string(), rule: z.string(), count })),
  waivers: z.array(z.object({ rule: z.string(), count })),
  warnings: z.array(z.object({ rule: z.string(), count })),
});
export const executionList = z.object({
  executions: z.array(
    z.object({
      execution: z.string(),
      status: z.string(),
      dryRun: z.boolean(),
      triggeredBy: z.string(),
      startedAt: z.string(),
      completedAt: z.string().nullable(),
      recordsProcessed: count,
    }),
  ),
});
export const begunExecution = z.object({
  execution: z.string(),
  entities: z.array(z.string()),
  chains: z.array(z.object({ entity: z.string(), capture: z.string() })),
  paused: z.array(z.object({ entity: z.string(), findings: z.array(finding) })),
  warnings: z.array(finding),
});
const sideEffect = z.object({ table: z.string(), kind: z.string(), name: z.string(), does: z.string() });
export const acknowledgement = z.object({ acknowledged: z.array(sideEffect) });
export const check = z.object({
  ok: z.boolean(),
  reachable: z.record(
    z.string(),
    z.discriminatedUnion("reachable", [
      z.object({ reachable: z.literal(true), ms: z.number(), version: z.string().optional(), role: z.string().optional() }),
      z.object({ reachable: z.literal(false), reason: z.string() }),
    ]),
  ),
  findings: z.array(finding).nullable(),
  sideEffects: z.array(sideEffect.extend({ acknowledged: z.boolean() })),
  error: failure.nullable(),
});

export const inspection = z.object({
  source: z.object({
    serverVersion: z.number(),
    node: z.string(),
    role: z.string(),
    log: z.object({ walLevel: z.string(), mayReplicate: z.boolean() }),
  }),
  tables: z.array(
    z.object({
      table: z.string(),
      kind: z.string().nullable(),
      entities: z.array(z.string()),
      rows: z.number().nullable(),
      bytes: z.number(),
      capture: z.string().nullable(),
      backedBy: z.string().nullable(),
      reason: z.string(),
      cost: z.string(),
      seconds: z.number().nullable(),
    }),
  ),
  findings: z.array(finding),
  improvements: z.array(z.object({ table: z.string(), sql: z.string(), reason: z.string() })),
});

export const adoptionPreview = z.object({
  preview: z.array(
    z.object({
      entity: z.string(),
      table: z.string(),
      adoptable: count,
      ambiguous: count,
      ambiguousRows: count,
      withoutLegacyId: count,
      indexed: z.boolean(),
      open: z.boolean(),
    }),
  ),
});

export type AdoptionPreview = z.output<typeof adoptionPreview>["preview"][number];
export type ExecutionState = z.output<typeof executionState>;
export type Inspection = z.output<typeof inspection>;
export type Check = z.output<typeof check>;
export type Finding = z.output<typeof finding>;
export type EntityState = z.output<typeof entityState>;
export type PlannedEntity = z.output<typeof planned>;

/** @throws Problem when the deployed functions speak another version. */
export function parseAnswer<Schema extends z.ZodType>(schema: Schema, answer: unknown): z.output<Schema> {
  const result = schema.safeParse(answer);
  if (result.success) return result.data;
  const fields = result.error.issues.map((issue) => issue.path.join(".")).join(", ");
  throw new Problem(
    "ANSWER_UNKNOWN",
    `The function's answer is not what this version expects (${fields}).`,
    "Deploy the functions of this version.",
  );
}

/** The findings that an answer or an error carries; undefined when it carries none. */
export function findingsIn(value: unknown): Finding[] | undefined {
  const parsed = z.array(finding).min(1).safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

/** Code, message and remedy of what failed an execution, where they are told. */
export function failuresOf(state: ExecutionState): { code: string; message: string; remedy: string }[] {
  return (state.errors ?? []).flatMap((error) => {
    const parsed = failure.safeParse(error);
    return parsed.success ? [parsed.data] : [];
  });
}
