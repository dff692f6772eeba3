import { sha1 } from "@noble/hashes/legacy.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { columnsRead, placesRead } from "../entity/columns-read.ts";
import { functionsCalled } from "../entity/functions-called.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { Context } from "../context.ts";
import { readContractState, storeContractCheck, type ContractState } from "../target/contract.ts";
import { moneyScale } from "../sql/money-scale.ts";
import { projectionRefusal } from "../source/projection-refusal.ts";
import { hasNull, hasRepeated } from "../source/claims.ts";
import { readSourceCatalog, type SourceCatalog } from "../source/catalog.ts";
import { shapeRead } from "../source/shapes.ts";
import type { SourceShape } from "../sql/shape.ts";
import type { TargetCatalog } from "../target/catalog.ts";
import { inspectCatalog, sourceTables } from "./inspect.ts";
import { compareSource } from "./compare-source.ts";
import { compareTarget } from "./compare-target.ts";
import { compareTypes } from "./compare-types.ts";
import { findingsOn, type Finding } from "./finding.ts";
import { answered, keyQuestions } from "./key-claims.ts";
import { hiddenFindings, moneyColumns, moneyFindings } from "./money-decimals.ts";
import { effectFindings, sideEffects } from "./side-effects.ts";

/** Raise it when the comparison changes: what it found before is then worth nothing. */
const COMPARISON = 8;

/** How long the rows of source tables are asked in one comparison, and of one table, for what no catalog says. */
const ASK_MS = 30_000;
const ASK_ONE_MS = 10_000;
/** What rows have answered, no catalog tells the end of: it is asked again while it stands. */
const STANDING: ReadonlySet<Finding["code"]> = new Set(["source_key_null", "source_key_repeated"]);
/** What the source has answered, and no catalog says. */
const OF_THE_SOURCE: ReadonlySet<Finding["code"]> = new Set([...STANDING, "source_key_unproven", "source_refused"]);

const NOTHING_KNOWN: Pick<NonNullable<ContractState<Finding>["known"]>, "findings" | "planned"> = { findings: [], planned: [] };

export interface Contract {
  readonly findings: readonly Finding[];
  /** Whether the catalogs were compared, or were those of the last comparison. */
  readonly compared: boolean;
  readonly alerted: readonly string[];
  readonly warned: readonly string[];
  /** Of the tables that each entity reads, and of what its SQL calls. */
  readonly sourceShapes: ReadonlyMap<string, SourceShape>;
}

/**
 * Both catalogs against all entities. The catalogs are read by one statement each, which answers with a fingerprint
 * alone while they are those of the last comparison. The source is asked about the requested entities alone (not
 * given: about all): it plans their statements, once while its catalog stays the same, and its rows are looked at for
 * what the catalog does not say of keys. `fresh` compares and asks in any case.
 */
export async function checkContract(
  context: Context,
  sourceId: number,
  { requested, fresh = false }: { readonly requested?: readonly Entity[]; readonly fresh?: boolean } = {},
): Promise<Contract> {
  const entities = [...context.entities.values()];
  const asked = requested ?? entities;
  const definitions = fingerprint(context);
  const tables = entities.map((entity) => entity.target.table);
  const state = await readContractState<Finding>(context.target, { sourceId, tables, definitions, fresh });
  const knownSource = fresh ? "" : (state.known?.sourceFingerprint ?? "");
  const calls = new Map(entities.map((entity) => [entity.name, functionsCalled(entity)]));
  const source = await readSourceCatalog(context.source, sourceTables(entities), knownSource, calls);
  const { alerted, warned } = state;
  const sourceShapes = new Map(
    entities.map((entity) => [
      entity.name,
      shapeRead(columnsRead(entity), placesRead(entity), source.shapes, source.called[entity.name] ?? ""),
    ]),
  );
  const loaded = new Set(state.loaded);
  // Of a catalog that is another one now, nothing that the source has answered holds.
  const known = state.known && source.catalog === null ? state.known : NOTHING_KNOWN;
  // Functions and tables that an expression names are not in the catalog's fingerprint: a refusal is asked again
  // while it stands.
  const refused = new Set(known.findings.filter(({ code }) => code === "source_refused").map(({ entity }) => entity));
  const planned = known.planned.filter((name) => !refused.has(name));
  const toPlan = asked.filter(({ name }) => !planned.includes(name));
  const names = new Set(asked.map(({ name }) => name));
  const stands = known.findings.some(({ code, entity }) => STANDING.has(code) && names.has(entity ?? ""));
  if (state.known && state.target.catalog === null && source.catalog === null && toPlan.length === 0 && !stands) {
    const effects = effectFindings(state.unacknowledged, entities, loaded);
    return { findings: [...known.findings, ...effects], compared: false, alerted, warned, sourceShapes };
  }
  const catalogs = {
    source: source.catalog ?? (await sourceCatalog(context, entities)),
    target: state.target.catalog ?? (await targetCatalog(context, sourceId, tables)),
  };
  const kept = known.findings.filter(({ code, entity }) => OF_THE_SOURCE.has(code) && !names.has(entity ?? ""));
  const findings = [...(await compare(context, entities, { asked, toPlan }, catalogs)), ...kept];
  const unacknowledged = await storeContractCheck(context.target, sourceId, {
    definitions,
    tables,
    sourceFingerprint: source.fingerprint,
    targetFingerprint: state.target.fingerprint,
    findings,
    planned: [...planned, ...toPlan.map(({ name }) => name)],
    effects: sideEffects(entities, catalogs.target),
  });
  if (source.catalog !== null) await inspectCatalog(context, sourceId, source.catalog);
  return {
    findings: [...findings, ...effectFindings(unacknowledged, entities, loaded)],
    compared: true,
    alerted,
    warned,
    sourceShapes,
  };
}

/** Everything of the code that the findings depend on. */
function fingerprint({ entities, hashes, columns, denied }: Context): string {
  // What a definition's hash leaves out, because it changes no record.
  const selected = [...entities.values()].map(({ name, source: { modified, dated, filters } }) => [
    name,
    modified,
    dated,
    filters,
  ]);
  const all = [COMPARISON, [...hashes].sort(), selected.sort(), columns, denied];
  return bytesToHex(sha1(utf8ToBytes(JSON.stringify(all))));
}

async function compare(
  context: Context,
  entities: readonly Entity[],
  { asked, toPlan }: { readonly asked: readonly Entity[]; readonly toPlan: readonly Entity[] },
  { source, target }: { source: SourceCatalog; target: TargetCatalog },
): Promise<Finding[]> {
  const ofSource = compareSource(entities, source, context);
  const keys = await askRows(context, asked, source);
  const refused: Finding[] = [];
  for (const entity of toPlan) {
    const found = ofSource.filter((finding) => finding.entity === null || finding.entity === entity.name);
    // The reason is known already.
    if (found.some(({ severity, code }) => severity === "fatal" && code !== "capture_impossible")) continue;
    const changes = found.every(({ code }) => code !== "capture_impossible");
    const told = await projectionRefusal(context.source, entity, changes);
    if (told !== undefined) refused.push(refusal(entity, told));
  }
  return [
    ...ofSource,
    ...keys,
    ...refused,
    ...compareTarget(entities, target),
    ...compareTypes(entities, source, target, context.columns.target),
    ...(await askMoney(context, entities, { source, target })),
  ];
}

/** Asks each server how it reads money under the locales of its own, where an entity has such a column. */
async function askMoney(
  context: Context,
  entities: readonly Entity[],
  catalogs: { source: SourceCatalog; target: TargetCatalog },
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const side of ["source", "target"] as const) {
    const columns = moneyColumns(entities, catalogs, side);
    if (columns.length === 0) continue;
    const scales = new Map<string, number | undefined>();
    const { lcMonetary, role } = catalogs[side];
    for (const locale of lcMonetary) if (locale !== null) scales.set(locale, await moneyScale(context[side], side, locale));
    findings.push(
      ...moneyFindings(columns, side, scales),
      ...(lcMonetary.includes(null) ? hiddenFindings(columns, side, role) : []),
    );
  }
  return findings;
}

/** Asks rows for what the catalog does not say of keys, each question once, whoever has it. */
async function askRows({ source: db, clock }: Context, entities: readonly Entity[], catalog: SourceCatalog): Promise<Finding[]> {
  const until = clock() + ASK_MS;
  const answers = new Map<string, boolean | undefined>();
  const findings: Finding[] = [];
  for (const question of keyQuestions(entities, catalog)) {
    const { table, columns, asks } = question;
    const asked = JSON.stringify([table, columns, asks]);
    const left = Math.min(ASK_ONE_MS, until - clock());
    if (!answers.has(asked) && left > 0) {
      answers.set(
        asked,
        await (asks === "null" ? hasNull(db, table, columns[0] ?? "", left) : hasRepeated(db, table, columns, left)),
      );
    }
    findings.push(...answered(question, answers.get(asked)));
  }
  return findings;
}

function refusal(entity: Entity, { sqlstate, at }: { readonly sqlstate: string; readonly at: string | undefined }): Finding {
  return findingsOn(entity.name, entity.source.table)("source_refused", {
    message: `The source refuses the statement that reads ${entity.name} (SQLSTATE ${sqlstate}${at === undefined ? "" : ` at ${at}`}).`,
    remedy:
      "Something that an expression, a condition or a watch of the entity file names is missing, of another type, or not readable: correct it there, or grant the source role SELECT on it.",
  });
}

/** One side has changed: of the other, too, the whole catalog is needed. */
async function sourceCatalog(context: Context, entities: readonly Entity[]): Promise<SourceCatalog> {
  const { catalog } = await readSourceCatalog(context.source, sourceTables(entities), "");
  if (catalog === null) throw new TypeError("a fresh reading has a catalog");
  return catalog;
}

async function targetCatalog(context: Context, sourceId: number, tables: readonly string[]): Promise<TargetCatalog> {
  const state: ContractState<Finding> = await readContractState(context.target, {
    sourceId,
    tables,
    definitions: "",
    fresh: true,
  });
  if (state.target.catalog === null) throw new TypeError("a fresh reading has a catalog");
  return state.target.catalog;
}
