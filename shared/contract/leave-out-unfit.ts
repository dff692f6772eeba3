import type { Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import type { Context } from "../context.ts";
import { pausedEntities } from "../target/control.ts";
import { alertContract, type ContractAlert } from "../target/contract.ts";
import { checkContract, type Contract } from "./check-contract.ts";
import { findingKey, type Finding } from "./finding.ts";
import { needsXmin } from "./without-xmin.ts";

export interface FitEntities {
  /** Of the requested entities, those that may run. */
  readonly runnable: readonly Entity[];
  /** Of the requested entities, those that are left out, with every finding on them. */
  readonly paused: readonly { readonly entity: string; readonly findings: readonly Finding[] }[];
  /** On the entities that may run. In a plan a fatal one among them is a side effect for which a run would leave its entity out. */
  readonly warnings: readonly Finding[];
  /** Of the tables that each entity reads. */
  readonly sourceShapes: Contract["sourceShapes"];
}

/**
 * Leaves out the entities that a person has paused, that one of the catalogs does not fit any more, or whose first
 * load would set off what nobody has acknowledged, or of which this capture would miss changes, and alerts of them.
 * The others run.
 * @throws IsthmusError CONTRACT_BROKEN, CAPTURE_IMPOSSIBLE, ENTITY_PAUSED or SIDE_EFFECTS_UNACKNOWLEDGED when none is
 * left.
 */
export async function leaveOutUnfit(
  context: Context,
  sourceId: number,
  requested: readonly Entity[],
  work: "sync" | "plan" | "adopt" = "sync",
  capture = "auto",
): Promise<FitEntities> {
  const contract = await checkContract(context, sourceId, { requested });
  const { sourceShapes } = contract;
  const fit = { ...pauseBroken(requested, ...relevantTo(work, forCapture(capture, contract.findings))), sourceShapes };
  // A plan only tells.
  if (work !== "plan") await alert(context, sourceId, fit, contract);
  const kept = withoutPaused(fit, await pausedEntities(context.target, sourceId));
  if (kept.runnable.length === 0 && kept.paused.length > 0) throw allPaused(kept.paused, capture);
  return kept;
}

/**
 * What counts, and what of it pauses. An adoption writes nothing to the application's tables, nor does a plan; but
 * the run that a plan is of would, and it says so.
 */
function relevantTo(
  work: "sync" | "plan" | "adopt",
  findings: readonly Finding[],
): [readonly Finding[], (finding: Finding) => boolean] {
  const others = findings.filter(({ code }) => code !== "side_effect");
  if (work === "adopt") return [others, isFatal];
  return [findings, work === "plan" ? (finding) => isFatal(finding) && others.includes(finding) : isFatal];
}

/** What cannot tell its written rows is only worth a warning where nobody asks for them. */
function forCapture(capture: string, findings: readonly Finding[]): readonly Finding[] {
  if (needsXmin(capture)) return findings;
  return findings.map((finding) => (finding.code === "capture_impossible" ? { ...finding, severity: "warn" } : finding));
}

function isFatal({ severity }: Finding): boolean {
  return severity === "fatal";
}

/** Which of the requested entities may run. A finding on no entity is one on each. */
export function pauseBroken(
  requested: readonly Entity[],
  findings: readonly Finding[],
  pauses: (finding: Finding) => boolean = isFatal,
): Omit<FitEntities, "sourceShapes"> {
  const of = (entity: Entity) => findings.filter((finding) => finding.entity === null || finding.entity === entity.name);
  const broken = (entity: Entity) => of(entity).some(pauses);
  const runnable = requested.filter((entity) => !broken(entity));
  return {
    runnable,
    paused: requested.filter(broken).map((entity) => ({ entity: entity.name, findings: of(entity) })),
    warnings: runnable.flatMap(of),
  };
}

/** What a person has paused is left out, whether it fits or not; that raises no alert about a catalog. */
function withoutPaused(fit: FitEntities, byPeople: ReadonlyMap<string, string>): FitEntities {
  const pauseOf = (entity: string): Finding[] => {
    const message = byPeople.get(entity);
    if (message === undefined) return [];
    const remedy = `npm run sync -- resume entity ${entity}`;
    return [{ code: "entity_paused", severity: "fatal", entity, table: null, column: null, message, remedy }];
  };
  const runnable = fit.runnable.filter(({ name }) => !byPeople.has(name));
  const added = fit.runnable.filter(({ name }) => byPeople.has(name));
  return {
    ...fit,
    runnable,
    paused: [
      ...fit.paused.map(({ entity, findings }) => ({ entity, findings: [...findings, ...pauseOf(entity)] })),
      ...added.map(({ name }) => ({ entity: name, findings: pauseOf(name) })),
    ],
    warnings: fit.warnings.filter(({ entity }) => entity === null || !byPeople.has(entity)),
  };
}

async function alert(context: Context, sourceId: number, kept: FitEntities, contract: Contract): Promise<void> {
  const { alerted, warned } = contract;
  const runnable = new Set(kept.runnable.map(({ name }) => name));
  // This work may pass over what another one cannot: mended is what nothing fatal is left of, whatever is asked for.
  const whole = pauseBroken(kept.runnable, contract.findings).runnable.map(({ name }) => name);
  const mended = alerted.filter((name) => whole.includes(name));
  const known = new Set(warned);
  const unknown = kept.warnings.filter((finding) => !known.has(findingKey(finding)));
  const alerts = [
    ...kept.paused.map(({ entity, findings }) => alertOf(entity, "contract_broken", findings)),
    ...[...runnable]
      .map((entity) => ({ entity, findings: unknown.filter((finding) => finding.entity === entity) }))
      .filter(({ findings }) => findings.length > 0)
      .map(({ entity, findings }) => alertOf(entity, "contract_warning", findings)),
  ];
  // What has been mended is told again should it come back; other entities' warnings stay told.
  const now = kept.warnings.map(findingKey);
  const others = warned.filter((key) => !runnable.has(entityOf(key)));
  const told = [...new Set([...others, ...now])];
  const same = told.length === warned.length && unknown.length === 0;
  if (alerts.length > 0 || mended.length > 0 || !same) await alertContract(context.target, sourceId, alerts, mended, told);
}

function alertOf(entity: string, kind: ContractAlert["kind"], findings: readonly Finding[]): ContractAlert {
  const broken = kind === "contract_broken";
  const count = findings.filter(({ severity }) => !broken || severity === "fatal").length;
  return {
    entity,
    kind,
    severity: broken ? "critical" : "warning",
    message: broken
      ? `${entity} is left out of every execution until what does not fit is mended: ${count} findings.`
      : `${entity}: ${count} new findings on the catalogs.`,
    details: { findings },
  };
}

function entityOf(key: string): string {
  return String((JSON.parse(key) as unknown[])[1]);
}

/** Nothing of what was asked for is left to run. */
export function allPaused(paused: FitEntities["paused"], capture: string): IsthmusError {
  const findings = paused.flatMap((one) => one.findings).filter(isFatal);
  const only = (code: Finding["code"]) => findings.every((finding) => finding.code === code);
  const code = only("side_effect")
    ? "SIDE_EFFECTS_UNACKNOWLEDGED"
    : only("capture_impossible")
      ? "CAPTURE_IMPOSSIBLE"
      : only("entity_paused")
        ? "ENTITY_PAUSED"
        : "CONTRACT_BROKEN";
  return new IsthmusError(
    code,
    `${paused.map(({ entity }) => entity).join(", ")}: ${findings.map(({ message }) => message).join(" ")}`,
    { detail: { ...(code === "CAPTURE_IMPOSSIBLE" ? { capture } : {}), findings } },
  );
}
