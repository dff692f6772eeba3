import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve, sep } from "node:path";
import { compileFunction } from "node:vm";
import { build } from "esbuild";
import type { Entity, Field, SourceRow } from "../shared/entity/define-entity.ts";
import type { ValueRule } from "../shared/entity/rules.ts";
import { ROOT } from "./installations.ts";

/** What the source may hold, as text: each kind of value, its edges, and what is no such value. */
const TEXTS: readonly (string | null)[] = [
  ...[
    null,
    "",
    " ",
    "null",
    "NULL",
    " null ",
    "a",
    "Abc",
    " padded ",
    "two words",
    "ÄÖ ß €",
    "😀",
    "line\nbreak",
    "x".repeat(300),
  ],
  ...[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "10",
    "42",
    "-0",
    "00",
    "1.5",
    "1.50",
    "-0.10",
    "1e3",
    ".5",
    "5.",
    "12345678901234567890.123",
  ],
  ...["NaN", "Infinity", "-Infinity", "true", "false", "t", "f", "Y", "N"],
  ...[
    "2026-01-31",
    "2026-02-30",
    "infinity",
    "2026-01-31 10:11:12.123456",
    "2026-01-31 10:11:12+00",
    "0001-01-01 BC",
    "23:59:60",
  ],
  ...[
    "{}",
    "[]",
    '{"a":1}',
    ' {"a": [1.50, null]} ',
    '{"a":1,"a":2}',
    '"text"',
    "{broken",
    '{"a":"\\u0000"}',
    '"\\ud800"',
    '"\\ud83d\\ude00"',
    "{1,2}",
  ],
  ...["a@example.com", "https://example.com/x", "+1 (555) 123-4567", "0b5fa1c4-6d7e-4f3a-9a1b-2c3d4e5f6071", "../etc", "<b>"],
];

/** The engine's part of an installation's meaning. */
interface Made {
  readonly entities: Readonly<Record<string, unknown>>;
  readonly projectionSql: (entity: Entity) => string;
}

/**
 * What the engine makes of the entities of a folder, by value: the SQL that reads their records, and what their
 * fields and rules make of texts of every kind. An edit of the engine that changes none of these means the same.
 * @param entities each entity's file in the folder, and the name that it exports.
 * @returns what is made, by the name of the export; null for what is no entity.
 * @throws Error where a file does not run.
 */
export async function madeOf(
  folder: string,
  entities: readonly { readonly file: string; readonly name: string }[],
): Promise<ReadonlyMap<string, unknown>> {
  const made = await loaded(folder, entities);
  return new Map(
    entities.map(({ name }) => {
      const entity = made.entities[name];
      return [name, isEntity(entity) ? meaningOf(entity, made.projectionSql) : null];
    }),
  );
}

/** Where the engine of an installation stands: beside it, or in this repository. */
export function engineOf(folder: string): string {
  const beside = resolve(folder, "../../shared");
  return existsSync(join(beside, "source/projection.ts")) ? beside : join(ROOT, "shared");
}

/** Whether a file is of the engine, whose code means what it makes. */
export function isOfEngine(path: string, folder: string): boolean {
  return path.startsWith(engineOf(folder) + sep);
}

/** Modules are loaded once in a process, so a bundle of its own has them as they are now. */
async function loaded(folder: string, entities: readonly { readonly file: string; readonly name: string }[]): Promise<Made> {
  const lines = [
    ...entities.map(({ file, name }) => `import { ${name} } from ${JSON.stringify(resolve(folder, file))};`),
    `export { projectionSql } from ${JSON.stringify(join(engineOf(folder), "source/projection.ts"))};`,
    `export const entities = { ${entities.map(({ name }) => name).join(", ")} };`,
  ];
  const { outputFiles } = await build({
    stdin: { contents: lines.join("\n"), resolveDir: folder, loader: "ts" },
    nodePaths: [join(ROOT, "node_modules")],
    bundle: true,
    write: false,
    format: "cjs",
    platform: "node",
    logLevel: "silent",
  });
  const module: { exports: unknown } = { exports: {} };
  const run = compileFunction(outputFiles[0]?.text ?? "", ["module", "exports", "require"]) as (...given: unknown[]) => void;
  try {
    run(module, module.exports, createRequire(import.meta.url));
  } catch (error) {
    throw new Error(`The entity files of ${dirname(folder)} do not run: ${String(error)}`, { cause: error });
  }
  return module.exports as Made;
}

function isEntity(value: unknown): value is Entity {
  return typeof value === "object" && value !== null && "fields" in value && "rules" in value && "source" in value;
}

function meaningOf(entity: Entity, projectionSql: Made["projectionSql"]): unknown {
  return {
    // How it is written is not what it says.
    sql: tried(() => projectionSql(entity).replaceAll(/\s+/g, " ")),
    fields: Object.entries(entity.fields).map(([name, field]) => [
      name,
      rowsOf(field.columns).map((row) => decisionOf(field, row)),
    ]),
    rules: entity.rules.map((rule) => rowsOf(rule.fields).map((record) => tried(() => rule.holds(record)))),
  };
}

function decisionOf(field: Field, row: SourceRow): unknown {
  const decisions = [new Set<string>(), new Set(field.landedAs)].slice(0, field.landedAs === undefined ? 1 : 2);
  return decisions.map((landedAs) =>
    tried(() => {
      const decision = field.decide(row, landedAs);
      if ("problem" in decision) return { rule: decision.problem.rule };
      const { value } = decision;
      return [value, value === null ? [] : field.rules.map((rule: ValueRule) => tried(() => rule.holds(value)))];
    }),
  );
}

/** Each text in all columns, and then beside other ones. */
function rowsOf(columns: readonly string[]): SourceRow[] {
  const steps = columns.length > 1 ? [0, 1, 5] : [0];
  return steps.flatMap((step) =>
    TEXTS.map((_, at) =>
      Object.fromEntries(columns.map((column, index) => [column, TEXTS[(at + index * step) % TEXTS.length] ?? null])),
    ),
  );
}

/** That a function throws is what it makes of a value. */
function tried(work: () => unknown): unknown {
  try {
    return work();
  } catch {
    return "throws";
  }
}
