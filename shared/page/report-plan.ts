import type { Claim } from "../target/claims.ts";
import type { Context } from "../context.ts";
import type { PageMessage } from "../target/sending.ts";
import type { PageOutcome } from "./page-outcome.ts";
import { commitPlan } from "../target/planned-records.ts";

/** Planned records that one page, or one tick, deletes at most: well within a lease. */
export const FORGET_ROWS = 50_000;

/** The end of a dry run, one entity per page: its report is written, and what was noted of its records is forgotten. */
export async function reportPlan(
  { target, config }: Context,
  claim: Claim,
): Promise<{ dispatch: readonly PageMessage[]; outcome: PageOutcome }> {
  const dispatch = await commitPlan(target, claim, config.ISTHMUS_LEASE_SECONDS, FORGET_ROWS);
  return { dispatch, outcome: { outcome: "reported", next: dispatch.length } };
}
