import { describeError, type DescribedError } from "../errors.ts";
import type { Context } from "../context.ts";
import { acknowledgeSideEffects, sideEffectsKnown, type SideEffect } from "../target/contract.ts";
import { beginSource } from "../target/plan.ts";
import { checkContract } from "./check-contract.ts";
import { driftFindings } from "./drift.ts";
import { unknownAsFindings } from "./identities.ts";
import type { Finding } from "./finding.ts";
import { reachability, type Reachability } from "../operate/reachability.ts";

export interface InstallationCheck {
  /** Everything that an execution cannot do without answers, and no entity would be left out. */
  readonly ok: boolean;
  readonly reachable: Reachability;
  /** null while a database does not answer: `error` says why. With an error: what of ours in the target is not as the release declares it. */
  readonly findings: readonly Finding[] | null;
  readonly sideEffects: readonly (Omit<SideEffect, "definition"> & { readonly acknowledged: boolean })[];
  readonly error: DescribedError | null;
}

/**
 * Compares both catalogs afresh, lists what writes set off, and asks everything that a function needs whether it
 * answers. What somebody has changed of ours is read first, by the catalog alone: a function that was dropped may be
 * what fails the rest.
 */
export async function checkInstallation(context: Context): Promise<InstallationCheck> {
  const reachable = await reachability(context);
  let drift: readonly Finding[] = [];
  try {
    drift = await driftFindings(context.target);
    const sourceId = await beginSource(context.target, context.config.SOURCE_NAME);
    const unknown = await unknownAsFindings(context, sourceId);
    const findings = [...unknown, ...(await checkContract(context, sourceId, { fresh: true })).findings, ...drift];
    const sideEffects = await sideEffectsKnown(context.target);
    const ok = reachable.qstash.reachable && findings.every(({ severity }) => severity !== "fatal");
    return { ok, reachable, findings, sideEffects, error: null };
  } catch (error) {
    return { ok: false, reachable, findings: drift.length > 0 ? drift : null, sideEffects: [], error: describeError(error) };
  }
}

/**
 * Accepts what writes to these tables (undefined: to all) set off now.
 * @returns what had not been acknowledged before.
 */
export async function acknowledge(
  context: Context,
  tables: readonly string[] | undefined,
  by: string,
): Promise<{ readonly acknowledged: Awaited<ReturnType<typeof acknowledgeSideEffects>> }> {
  await checkContract(context, await beginSource(context.target, context.config.SOURCE_NAME), { fresh: true });
  return { acknowledged: await acknowledgeSideEffects(context.target, tables, by) };
}
