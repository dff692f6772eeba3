import { z } from "zod";
import { STRATEGIES, type Entity } from "../entity/define-entity.ts";
import { compiledKind, type ColumnKinds } from "../entity/kinds.ts";
import type { Selection } from "../source/selected-keys.ts";
import { CAPTURES } from "./choose-capture.ts";
import { byName, list, moment, PLAIN_TEXT } from "./request-values.ts";

/** Ids that one request may name, over all its entities. */
export const MOST_LEGACY_IDS = 10_000;
/** Values that one filter may name. */
const MOST_VALUES = 1_000;
/** Records per page that a request may ask for; what pages measure makes them smaller where that is too many. */
export const LARGEST_PAGE = 20_000;

type Entities = ReadonlyMap<string, Entity>;
type FilterType = NonNullable<Selection["filters"]>[number]["type"];

const LARGEST_ID = 2n ** 63n - 1n;
const TYPES: Readonly<Record<string, FilterType>> = { integer: "bigint", text: "text", boolean: "boolean" };
const VALUES: Readonly<Record<FilterType, readonly [RegExp, string]>> = {
  bigint: [/^-?\d{1,18}$/, "must be an integer"],
  text: [PLAIN_TEXT, "must not hold NUL or half a character"],
  boolean: [/^(true|false)$/, "must be true or false"],
};

const names = list(z.string().min(1).max(100)).max(200).readonly();
const legacyId = z
  .union([z.number(), z.string()], { error: "must be an integer" })
  .refine((id) => typeof id === "string" || Number.isSafeInteger(id), "must be an integer; beyond 2^53 write it as a text")
  .transform(String)
  .refine((id) => isLegacyId(id), "must be an integer within bigint")
  .transform((id) => BigInt(id).toString());
const value = z
  .union([z.string().max(1_000), z.number(), z.boolean()], {
    error: "must be a text, a number, true or false, or a list of these",
  })
  // A greater one has become another number before anybody can look at it.
  .refine((one) => !Number.isInteger(one) || Number.isSafeInteger(one), "is beyond 2^53: write it as a text")
  .transform(String);
const values = z.union([value.transform((one) => [one]), list(value).max(MOST_VALUES)], {
  error: `must be a text, a number, true or false, or a list of up to ${MOST_VALUES} of these`,
});

const shape = z.strictObject({
  /** Names of entities; without it: all, or those that legacyIds and filters name. */
  entities: names.optional(),
  /** auto: what changed (default). full: everything again. The others: docs/reference.md. */
  capture: z.enum(CAPTURES).optional(),
  /** Records dated from (inclusive) to (exclusive), by what their entity declares. */
  dateRange: z
    .strictObject({ from: moment.optional(), to: moment.optional() })
    .refine(({ from, to }) => from !== undefined || to !== undefined, "needs from, to or both")
    .refine(
      ({ from, to }) => from === undefined || to === undefined || Date.parse(from) < Date.parse(to),
      "from must lie before to",
    )
    .optional(),
  /** Entity → ids of the old database. */
  legacyIds: byName("an entity", list(legacyId)).optional(),
  /** Entity → column → value or values; every column must agree. */
  filters: byName("an entity", byName("a column", values)).optional(),
  /** Entities to run first, as far as their parents allow it. */
  priorities: names.optional(),
  /** Records of a page. */
  pageSize: z.number().int().min(1).max(LARGEST_PAGE).optional(),
  /** Read the records again, too, that refer to the selected ones. */
  dependants: z.boolean().optional(),
  /** Who wins where both sides have changed a field, whatever the entities declare. */
  conflictStrategy: z.enum(STRATEGIES).optional(),
  /** Write the source's values over what only the target has changed, too. */
  overwriteEdits: z.literal(true).optional(),
  /** Take over the ids of rows that an earlier migration left in the target, instead of a sync. */
  adopt: z.literal(true).optional(),
  /** Tell what would be done, and change nothing. */
  dryRun: z.boolean().optional(),
});

/** What a sync is asked for: the body of sync-trigger, and the configuration of a job. */
export type SelectiveSyncConfig = z.output<typeof shape>;

/** SelectiveSyncConfig over these entities, whose source columns are of these kinds. What is wrong names its field. */
export function selectiveSync(entities: Entities, kinds: ColumnKinds): z.ZodType<SelectiveSyncConfig> {
  return shape.superRefine((config, context) => {
    for (const { path, message } of problemsOf(config, entities, kinds))
      context.addIssue({ code: "custom", path: [...path], message });
  });
}

/** Whether certain records are asked for, and not what has changed. */
export function isSelection({ dateRange, legacyIds, filters }: SelectiveSyncConfig): boolean {
  return dateRange !== undefined || legacyIds !== undefined || filters !== undefined;
}

/** The entities that a selection names: by ids, by filters, or as such. A date range that names none is of all. */
export function selectedEntities(
  { entities, legacyIds = {}, filters = {}, dateRange }: SelectiveSyncConfig,
  all: Entities,
): string[] {
  const named = [...new Set([...(entities ?? []), ...Object.keys(legacyIds), ...Object.keys(filters)])];
  return named.length === 0 && dateRange ? [...all.keys()] : named;
}

/** Which records of an entity are asked for by filters and date range; undefined where ids are. */
export function selectionOf(config: SelectiveSyncConfig, entity: Entity, kinds: ColumnKinds): Selection | undefined {
  if (config.legacyIds && Object.hasOwn(config.legacyIds, entity.name)) return undefined;
  const { from, to } = config.dateRange ?? {};
  const { dated } = entity.source;
  return {
    filters: Object.entries(config.filters?.[entity.name] ?? {}).map(([column, list]) => ({
      column,
      type: filterType(entity, column, kinds),
      values: list,
    })),
    ...(config.dateRange && dated !== undefined ? { dated: { column: dated, from, to } } : {}),
    dependants: config.dependants === true,
  };
}

function filterType({ source }: Entity, column: string, kinds: ColumnKinds): FilterType {
  return TYPES[compiledKind(kinds, source.table, column) ?? ""] ?? "text";
}

function isLegacyId(id: string): boolean {
  if (!/^-?\d{1,19}$/.test(id)) return false;
  const number = BigInt(id);
  return number <= LARGEST_ID && number >= -LARGEST_ID - 1n;
}

interface FieldProblem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

function problemsOf(config: SelectiveSyncConfig, entities: Entities, kinds: ColumnKinds): FieldProblem[] {
  const { legacyIds = {}, filters = {}, priorities = [], dateRange, adopt } = config;
  const problems = [
    ...(config.overwriteEdits && config.conflictStrategy !== undefined
      ? [{ path: ["conflictStrategy"], message: "overwriteEdits says already who wins: leave one of the two out" }]
      : []),
    ...(config.entities ?? []).flatMap((name, index) => unknown(entities, name, ["entities", index])),
    ...priorities.flatMap((name, index) => unknown(entities, name, ["priorities", index])),
    ...Object.keys(legacyIds).flatMap((name) => unknown(entities, name, ["legacyIds", name])),
    ...Object.keys(filters).flatMap((name) => unknown(entities, name, ["filters", name])),
  ];
  if (problems.length > 0) return problems;
  const count = Object.values(legacyIds).flat().length;
  if (count > MOST_LEGACY_IDS) {
    problems.push({ path: ["legacyIds"], message: `has ${count} ids; a request may name ${MOST_LEGACY_IDS} in all` });
  }
  for (const [name, columns] of Object.entries(filters)) problems.push(...filterProblems(entities.get(name), columns, kinds));
  if (!isSelection(config)) {
    if (config.dependants) problems.push({ path: ["dependants"], message: "belongs to legacyIds, filters or dateRange" });
    if (adopt)
      problems.push(
        ...strangers(
          config,
          ["capture", "priorities", "pageSize", "conflictStrategy", "overwriteEdits"],
          "does not belong to adopt",
        ),
      );
    if (config.overwriteEdits && (config.entities === undefined || (config.capture !== "full" && config.capture !== "digest")))
      problems.push({
        path: ["overwriteEdits"],
        message: "needs entities, and the capture digest or full: it is asked for what it names alone",
      });
    return problems;
  }
  const chosen = `legacyIds, filters and dateRange read their records whatever has changed: leave capture out`;
  if (config.capture !== undefined && config.capture !== "auto") problems.push({ path: ["capture"], message: chosen });
  problems.push(...strangers(config, ["adopt"], "does not belong to legacyIds, filters or dateRange"));
  for (const [index, name] of (config.entities ?? []).entries()) {
    if (!dateRange && !Object.hasOwn(legacyIds, name) && !Object.hasOwn(filters, name))
      problems.push({
        path: ["entities", index],
        message: `${name} has neither legacyIds nor filters, and there is no dateRange`,
      });
  }
  for (const field of ["legacyIds", "filters"] as const) {
    for (const name of Object.keys(config[field] ?? {})) {
      if (config.entities && !config.entities.includes(name))
        problems.push({ path: [field, name], message: "is not among entities" });
      if (field === "legacyIds" && Object.hasOwn(filters, name))
        problems.push({ path: [field, name], message: "has filters as well: ask for one or the other" });
    }
  }
  if (!dateRange) return problems;
  if (config.legacyIds) problems.push({ path: ["dateRange"], message: "does not belong to legacyIds" });
  const undated = selectedEntities(config, entities).filter((name) => entities.get(name)?.source.dated === undefined);
  if (undated.length > 0) {
    problems.push({
      path: ["dateRange"],
      message: `${undated.join(", ")} declare no column that a date range could mean: name other entities`,
    });
  }
  return problems;
}

function unknown(entities: Entities, name: string, path: FieldProblem["path"]): FieldProblem[] {
  if (entities.has(name)) return [];
  return [
    {
      path,
      message: `there is no entity ${JSON.stringify(name.slice(0, 60))}; there are ${[...entities.keys()].sort().join(", ")}`,
    },
  ];
}

function filterProblems(
  entity: Entity | undefined,
  columns: Readonly<Record<string, readonly string[]>>,
  kinds: ColumnKinds,
): FieldProblem[] {
  if (!entity) return [];
  const { name, source } = entity;
  return Object.entries(columns).flatMap(([column, given]): FieldProblem[] => {
    const path = ["filters", name, column];
    if (!source.filters.includes(column)) {
      const offered = source.filters.length > 0 ? source.filters.join(", ") : "none";
      return [{ path, message: `${name} declares no such filter; it has ${offered}` }];
    }
    const [form, message] = VALUES[filterType(entity, column, kinds)];
    return given.flatMap((one, index) => (form.test(one) ? [] : [{ path: [...path, index], message }]));
  });
}

function strangers(config: SelectiveSyncConfig, fields: readonly (keyof SelectiveSyncConfig)[], message: string): FieldProblem[] {
  return fields.filter((field) => config[field] !== undefined).map((field) => ({ path: [field], message }));
}
