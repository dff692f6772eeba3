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
  /** absent: keys without a record in the source, and without a row that was deleted for it; older functions tell none. */
  counts: z.object({ ...counts.shape, absent: count.default(0) }),
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
  /** What the brake would stop. */
  brakes: z
    .array(
      z.object({ kind: z.enum(["delete", "null", "overwrite"]), field: z.string().nullable(), records: count, landed: count }),
    )
    .default([]),
});
const finding = z.object({
  code: z.string(),
  severity: z.enum(["fatal", "warn"]),
  entity: z.string().nullable(),
  table: z.string().nullable().default(null),
  message: z.string(),
  remedy: z.string(),
});
const failure = z.looseObject({ code: z.string(), message: z.string(), remedy: z.string() });
/** What an execution's chains failed with; older ones carry a code alone. */
const executionFailure = z.looseObject({
  code: z.string(),
  entity: z.string().optional(),
  field: z.string().nullish(),
  message: z.string().default("It failed."),
  remedy: z.string().default("See sync_executions.errors and docs/errors.md."),
});
const trouble = z.object({
  entity: z.string().nullable(),
  tries: count,
  sends: count,
  code: z.string().nullable(),
  message: z.string().nullable(),
  remedy: z.string().nullable(),
});

export const executionState = z.object({
  execution: z.string(),
  status: z.enum(["running", "succeeded", "incomplete", "failed", "cancelled"]),
  dryRun: z.boolean(),
  /** What a dry run found, once it is through. */
  plan: z.object({ entities: z.array(planned) }).nullable(),
  triggeredBy: z.string(),
  startedAt: z.string(),
  completedAt: z.string().nullable(),
  errors: z.array(z.unknown()).nullable(),
  /** For how long nothing of it has moved; null when it is closed. */
  idleSeconds: count.nullable(),
  /** Pages that were tried in vain so far. */
  troubles: z.array(trouble),
  metrics: z.record(z.string(), z.number().nullable()).nullable(),
  entities: z.array(entityState).nullable(),
  queue: z.array(z.object({ entity: z.string(), state: z.string(), rule: z.string(), count })),
  waivers: z.array(z.object({ rule: z.string(), count })),
  warnings: z.array(z.object({ rule: z.string(), count })),
  /** What stands in the way of executions now; older functions tell none. */
  notices: z.array(z.string()).default([]),
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
      /** Older functions tell none. */
      paused: z.boolean().default(false),
    }),
  ),
});
/** Entities that are not touched because one of the catalogs does not fit them. */
const leftOut = z.array(z.object({ entity: z.string(), findings: z.array(finding) }));
export type LeftOut = z.output<typeof leftOut>;
export const begunExecution = z.object({
  execution: z.string(),
  entities: z.array(z.string()),
  chains: z.array(z.object({ entity: z.string(), capture: z.string() })),
  paused: leftOut,
  warnings: z.array(finding),
});
export const cancellation = z.object({
  cancelled: z.array(z.object({ execution: z.string(), status: z.string(), pagesAtWork: count })),
});
export const controlled = z.object({
  controlled: z.object({
    what: z.string(),
    name: z.string(),
    word: z.string(),
    executions: z.array(z.string()),
    waits: z.boolean(),
    pagesAtWork: count,
    sent: count,
  }),
});
export const pausedList = z.object({
  paused: z.array(z.object({ what: z.string(), name: z.string(), by: z.string(), since: z.string(), message: z.string() })),
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
  paused: leftOut,
});

export type AdoptionPreview = z.output<typeof adoptionPreview>["preview"][number];
export type Trouble = z.output<typeof trouble>;
export type ExecutionState = z.output<typeof executionState>;
export type Inspection = z.output<typeof inspection>;
export type Check = z.output<typeof check>;
const text = z.string().nullable();
const ofEntity = z.object({ entity: z.string(), id: z.string() });
/** The story of one record. */
export const story = z.object({
  entity: z.string(),
  id: z.string(),
  source: z.object({ table: z.string(), row: z.string() }),
  target: z.object({ table: z.string(), id: z.string(), row: z.boolean(), asLeft: z.boolean().nullable() }),
  mapping: z.object({ uuid: z.string(), active: z.boolean(), since: z.string() }).nullable(),
  state: z.object({ syncedAt: z.string(), goneAt: text, outside: z.boolean(), sourceChanged: z.boolean().nullable() }).nullable(),
  conflicts: z.array(
    z.object({
      id: z.string(),
      state: z.string(),
      type: z.string(),
      rule: z.string(),
      field: text,
      remedy: z.string(),
      firstSeen: z.string(),
      attempts: z.number(),
      strategy: text,
      resolvedBy: text,
      resolvedAt: text,
      standing: z.boolean(),
      parent: ofEntity.nullable(),
      candidates: z.array(z.string()),
      execution: text,
      resolvedIn: text,
    }),
  ),
  executions: z.array(z.object({ id: z.string(), status: z.string(), startedAt: z.string() })),
  asked: text,
  warnings: z.array(z.string()),
  waiters: z.array(ofEntity),
  moreWaiters: z.boolean(),
  fields: z.array(
    z.object({
      field: z.string(),
      kind: z.string(),
      columns: z.array(z.string()),
      before: z.record(z.string(), text),
      after: text,
      target: text,
      edited: z.boolean(),
      parent: ofEntity.extend({ landed: z.boolean() }).nullable(),
      rule: text,
      remedy: text,
    }),
  ),
  withheld: z.array(z.string()),
  run: z.object({ verdict: z.string(), why: z.string() }),
});

export type Story = z.output<typeof story>;
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

/** What ended an execution, in words: entity and column where they are known. One that says nothing says that. */
export function failuresOf(state: ExecutionState): { code: string; message: string; remedy: string }[] {
  const told = (state.errors ?? []).flatMap((error) => {
    const parsed = executionFailure.safeParse(error);
    if (!parsed.success) return [];
    const { code, entity, field, message, remedy } = parsed.data;
    const where = [entity, field].filter((part) => typeof part === "string").join(".");
    return [{ code, message: where === "" ? message : `${where}: ${message}`, remedy }];
  });
  if (told.length > 0 || state.status !== "failed") return told;
  return [
    {
      code: "FAILED",
      message: "No chain of it tells why.",
      remedy: "See the logs of sync-page, and sync_chains of this execution; then start again.",
    },
  ];
}
