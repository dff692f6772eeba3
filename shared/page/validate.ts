import type { Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import type { Claim } from "../target/claims.ts";
import type { Context } from "../context.ts";
import type { PageMessage } from "../target/sending.ts";
import type { PageOutcome } from "./page-outcome.ts";
import {
  changedInTarget,
  commitValidation,
  readOnceMore,
  targetBucket,
  targetTotals,
  unsettledKeys,
} from "../target/control-totals.ts";
import { moneyColumns, type BucketTotals } from "../sql/amounts.ts";
import { sourceBucket, sourceTotals } from "../source/control-totals.ts";
import { addDecimals } from "../sql/decimals.ts";
import { knownDigests } from "../target/digests.ts";
import { sourceDigests } from "../source/digests.ts";
import { inSpans } from "../source/uncomputable.ts";
import { reportPlan } from "./report-plan.ts";

/**
 * Compares both sides of one entity per page: how many settled records there are and what their money columns add up
 * to, exactly. Buckets that differ are drilled to keys; these are read once more, and what then remains fails the
 * execution. A record that the source changed again since is not a difference, nor is one whose target row somebody
 * deleted or edited since. An entity in which nothing was found to do is not compared.
 */
export async function validate(
  context: Context,
  claim: Claim,
): Promise<{ dispatch: readonly PageMessage[]; outcome: PageOutcome }> {
  // A plan has written nothing that could be compared.
  if (claim.execution.dry_run) return reportPlan(context, claim);
  const names = claim.execution.compared;
  const index = claim.chain.cursor === null ? 0 : Number(claim.chain.cursor) + 1;
  const entity = context.entities.get(names[index] ?? "");
  const entityId = entity ? (claim.entities[entity.name]?.id ?? null) : null;
  const result = entity && entityId !== null ? await compare(context, claim, entity, entityId) : undefined;
  const dispatch = await commitValidation(context.target, claim, {
    entityId: result ? entityId : null,
    report: result ?? {},
    recheck: claim.chain.round === 1 ? (result?.differing ?? []) : (result?.excused ?? []),
    last: index >= names.length - 1,
    leaseSeconds: context.config.ISTHMUS_LEASE_SECONDS,
  });
  const differences = result?.differing.length ?? 0;
  return { dispatch, outcome: { outcome: "validated", passed: differences === 0, differences } };
}

interface Comparison {
  readonly source: Readonly<Record<string, string>>;
  readonly target: Readonly<Record<string, string>>;
  readonly unsettled: number;
  readonly surplus: number;
  readonly differing: readonly string[];
  /** Second round: records whose target row somebody deleted or edited meanwhile. They are read again, as after any such change. */
  readonly excused: readonly string[];
}

async function compare(context: Context, claim: Claim, entity: Entity, entityId: number): Promise<Comparison> {
  const { source, target } = context;
  const known = await unsettledKeys(target, entityId, entity);
  // What the source cannot compute goes to the queue where it is read, not here.
  const { totals: sourceSide, refused } = await sourceTotals(source, entity, known);
  const unsettled = [...new Set([...known, ...refused])];
  assertKeysPresent(entity, sourceSide);
  const targetSide = await targetTotals(target, entityId, entity, unsettled);

  const differing: string[] = [];
  const excused: string[] = [];
  let surplus = 0;
  for (const bucket of differingBuckets(sourceSide, targetSide)) {
    const there = await sourceBucket(source, entity, unsettled, bucket);
    const here = new Map((await targetBucket(target, entityId, entity, unsettled, bucket)).map((row) => [row["id"], row]));
    const unlike: string[] = [];
    for (const row of there) {
      const id = row["id"] ?? "";
      const landed = here.get(id);
      here.delete(id);
      if (!landed || moneyColumns(entity).some((money) => landed[money.told] !== row[money.told])) unlike.push(id);
    }
    // In the first round a later change is read once more like any other difference; after that it excuses itself.
    const stays = claim.chain.round === 2 ? await asTheyWereRead(context, claim, entityId, entity, unlike) : unlike;
    const changed = claim.chain.round === 2 ? await changedInTarget(target, entityId, entity, stays) : [];
    excused.push(...changed);
    differing.push(...stays.filter((id) => !changed.includes(id)));
    surplus += here.size;
  }
  return {
    source: total(sourceSide),
    target: total(targetSide),
    unsettled: unsettled.length,
    surplus,
    differing,
    excused,
  };
}

/** Rows without a key are in no range of keys: nothing else finds them. @throws IsthmusError KEY_BROKEN */
function assertKeysPresent(
  { name, source: { table, key } }: Entity,
  buckets: readonly { readonly bucket: string | null }[],
): void {
  if (buckets.every(({ bucket }) => bucket !== null)) return;
  throw new IsthmusError("KEY_BROKEN", `${table}.${key}, the key of ${name}, is null in some row of the source.`, {
    detail: { entity: name, table, column: key },
  });
}

/**
 * Which of these records the source still has as they were read last, by their hashes. One that is not known was not
 * there a round ago; if it was, and has been read since, it must not be unknown.
 */
async function asTheyWereRead(
  { source, target }: Context,
  claim: Claim,
  entityId: number,
  entity: Entity,
  ids: readonly string[],
): Promise<string[]> {
  const spans = ids
    .map(BigInt)
    .sort((a, b) => (a < b ? -1 : 1))
    .map((id) => ({ from: id, to: id }));
  const known = new Map((await knownDigests(target, { entityId, plan: null }, spans)).map(({ id, digest }) => [id, digest]));
  const reread = new Set(await readOnceMore(target, claim.execution.id, entity.name));
  const [first, last] = [spans[0], spans.at(-1)];
  if (!first || !last) return [];
  const { results } = await inSpans(
    source,
    entity,
    { from: first.from, to: last.to },
    ({ from, to }) =>
    sourceDigests(source, entity, spans.filter((span) => span.to >= from && span.to <= to), 0), // prettier-ignore
  );
  const now = results.flat();
  return now.filter(({ id, digest }) => (known.has(id) ? known.get(id) === digest : reread.has(id))).map(({ id }) => id);
}

/** Buckets whose counts or sums are not the same on both sides. */
export function differingBuckets(source: readonly BucketTotals[], target: readonly BucketTotals[]): string[] {
  const rest = new Map(target.map((totals) => [totals.bucket, totals]));
  const differing: string[] = [];
  for (const totals of source) {
    const other = rest.get(totals.bucket);
    rest.delete(totals.bucket);
    if (!other || Object.keys(totals).some((column) => totals[column] !== other[column])) differing.push(totals.bucket);
  }
  return [...differing, ...rest.keys()];
}

/** Sums of all buckets, exactly, as decimal text. */
export function total(buckets: readonly BucketTotals[]): Record<string, string> {
  const sums: Record<string, string> = { n: "0" };
  for (const { bucket: _, ...columns } of buckets) {
    for (const [column, value] of Object.entries(columns)) sums[column] = addDecimals(sums[column] ?? "0", value ?? "0");
  }
  return sums;
}
