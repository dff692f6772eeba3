import { isSourceLimit } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import {
  commitDigestPage,
  driftedRows,
  keptOutside,
  knownBuckets,
  knownDigests,
  knownOf,
  strayedRecords,
  type DigestFindings,
  type KnownOf,
  type Mapped,
  type Strayed,
} from "../target/digests.ts";
import { keysWithoutRecord, sourceBuckets, sourceDigests, windowEnd } from "../source/digests.ts";
import { type Bucket, type KeyDigest, type Span } from "../sql/spans.ts";
import { HIGHEST, LOWEST } from "../sql/key-range.ts";
import { stateOfRecord } from "../source/read-records.ts";
import { inSpans } from "../source/uncomputable.ts";
import { mintUuid } from "./mint-uuid.ts";
import { nextWindowSize } from "./page-size.ts";
import type { Claim } from "../target/claims.ts";
import type { Context } from "../context.ts";
import type { PageMessage } from "../target/sending.ts";

/** Buckets of 4,096 keys, of 256 where those differ, and of 16: a difference costs few kilobytes, whatever the table's size. */
const BUCKET_BITS = [12, 8, 4] as const;
const [COARSE] = BUCKET_BITS;
/** Most buckets, and then records, that a page lists on either side; where more differ, it ends before them. */
const MOST_LISTED = 20_000;

/**
 * A page of a digest: compares the hashes of the source's records with those that were read last, summed by key range
 * on either server, looks closer only where the sums differ, and looks for target rows that are not as the sync left
 * them, and for records of which the target's own sides (mapping, row state, row) do not agree. It reads no records:
 * it asks for them. So it does not matter that the source moves on meanwhile; a record that differed for a moment
 * only is read once more and found unchanged.
 */
export async function digest(context: Context, claim: Claim, entity: Entity): Promise<Digested> {
  const { config, source, target, clock, meter } = context;
  const { chain } = claim;
  const started = clock();
  const known = knownOf(claim);
  const whole: Span = {
    from: chain.cursor === null ? BigInt(chain.range_from ?? LOWEST) : BigInt(chain.cursor) + 1n,
    to: BigInt(chain.range_to ?? HIGHEST),
  };
  const { last, rows } = await windowEnd(source, entity, whole, chain.page_size);
  let window = rows < chain.page_size || last === null ? whole : { ...whole, to: BigInt(last) };
  const drifted = await driftedRows(target, known, window, MOST_LISTED);
  if (drifted.length === MOST_LISTED) window = { ...window, to: BigInt(drifted.at(-1)?.id ?? window.to) };
  const listed = await strayedRecords(target, known, window, MOST_LISTED);
  // The last key may have more findings than fit.
  const before = BigInt(listed.at(-1)?.id ?? 0n) - 1n;
  if (listed.length === MOST_LISTED && before >= window.from) window = { ...window, to: before };

  // The entity may have kept them by a predicate that it has no more.
  const kept = await keptOutside(target, known, window, MOST_LISTED);
  if (kept.length === MOST_LISTED) window = { ...window, to: BigInt(kept.at(-1) ?? window.to) };

  const compared = await compareAll(context, entity, known, window, chain.page_size === 1);
  window = { ...window, to: compared.end };
  const within = drifted.filter(({ id }) => BigInt(id) <= window.to);
  const strayed = listed.filter(({ id }) => BigInt(id) <= window.to);
  const erased =
    kept.length === 0
      ? []
      : await keysWithoutRecord(
          source,
          entity,
          kept.filter((id) => BigInt(id) <= window.to),
        );
  const mapped = certainRows(strayed, (id) => mintUuid(claim.source.namespace, entity.name, id));
  const again = new Set(mapped.map(({ k }) => k));
  const found = (finding: Strayed["finding"]) => strayed.filter((one) => one.finding === finding).map(({ id }) => id);
  const findings: DigestFindings = {
    records: compared.records,
    ...compared.unlike,
    surplus: [...compared.unlike.surplus, ...erased],
    target_deleted: within.filter(({ finding }) => finding === "target_deleted").map(({ id }) => id),
    edited: within.filter(({ finding }) => finding === "edited").map(({ id }) => id),
    rewritten: within.filter(({ finding }) => finding === "rewritten").map(({ id }) => id),
    returned: [...within.filter(({ finding }) => finding === "returned").map(({ id }) => id), ...found("returned")],
    state_lost: found("state_lost"),
    mapping_lost: found("mapping_lost"),
    mapped_again: [...again],
    unmapped: found("unmapped").filter((id) => !again.has(id)),
  };
  const keys = [...new Set(Object.values(findings).flatMap((ids) => (typeof ids === "number" ? [] : (ids as string[]))))];

  const dispatch = await commitDigestPage(target, claim, keys, mapped, findings, {
    cursor: String(window.to),
    done: window.to === whole.to,
    heap_bytes: meter.heapBytes(),
    wall_ms: clock() - started,
    next_page_size: nextWindowSize({ current: chain.page_size, maximum: config.ISTHMUS_DIGEST_ROWS, slow: chain.slow_growth }),
    lease_seconds: config.ISTHMUS_LEASE_SECONDS,
    definition_hash: context.hashes.get(entity.name) ?? "",
    edits: { share: config.ISTHMUS_EDITS_SHARE, records: config.ISTHMUS_EDITS_RECORDS },
  });
  return { records: compared.records, differing: keys.length, dispatch };
}

interface Digested {
  readonly records: number;
  /** How many records are to be read again. */
  readonly differing: number;
  readonly dispatch: readonly PageMessage[];
}

/**
 * Rows that nothing maps and that are certainly the record whose legacy id they have: the sync made their id for this
 * record alone, or they hold what it left of a record whose mapping is gone, and no other row has the legacy id.
 */
export function certainRows(strayed: readonly Strayed[], mint: (id: string) => string): Mapped[] {
  const lost = new Set(strayed.filter(({ finding }) => finding === "mapping_lost").map(({ id }) => id));
  const rows = strayed.filter(({ finding }) => finding === "unmapped");
  const count = new Map<string, number>();
  for (const { id } of rows) count.set(id, (count.get(id) ?? 0) + 1);
  return rows.flatMap(({ id, uuid, as_left, taken }) => {
    const certain = uuid === mint(id) || (lost.has(id) && as_left && count.get(id) === 1);
    return uuid !== null && certain && !taken ? [{ k: id, id: uuid }] : [];
  });
}

interface Compared {
  readonly records: number;
  readonly unlike: Unlike;
  /** What was compared ends here. */
  readonly end: bigint;
}
type Unlike = Pick<DigestFindings, "missing" | "surplus" | "changed">;

/**
 * Compares a window. Records that the source cannot compute are read again, which puts them into the queue; the rest
 * is compared. One that it cannot compute in time as well, where the window cannot be smaller (`smallest`).
 */
async function compareAll(context: Context, entity: Entity, of: KnownOf, window: Span, smallest: boolean): Promise<Compared> {
  const { source } = context;
  try {
    return await compareWindow(context, entity, of, window, []);
  } catch (error) {
    if (stateOfRecord(error) === undefined && !(smallest && isSourceLimit(error))) throw error;
  }
  const { refused, end } = await inSpans(
    source,
    entity,
    window,
    (span) => sourceBuckets(source, entity, [span], undefined, COARSE),
    { mayBeSlow: smallest },
  );
  const { records, unlike, ...rest } = await compareWindow(context, entity, of, { ...window, to: end }, refused);
  const within = refused.filter((id) => BigInt(id) <= rest.end);
  const surplus = unlike.surplus.filter((id) => !within.includes(id));
  return { ...rest, records: records + within.length, unlike: { ...unlike, surplus, changed: [...unlike.changed, ...within] } };
}

/** Level by level, only into what differs. */
async function compareWindow(
  { source, target }: Context,
  entity: Entity,
  of: KnownOf,
  whole: Span,
  without: readonly string[],
): Promise<Compared> {
  let window = whole;
  let records = 0;
  let spans: readonly Span[] = [window];
  let width: number | undefined;
  for (const [level, bits] of BUCKET_BITS.entries()) {
    if (spans.length === 0) break;
    const here = await sourceBuckets(source, entity, spans, width, bits, without);
    if (level === 0) records = here.reduce((sum, { n }) => sum + Number(n), 0);
    const known = await knownBuckets(target, of, spans, bits);
    const { differing, end } = differingSpans(here, known, window, bits, MOST_LISTED << (BUCKET_BITS[level + 1] ?? 0));
    spans = differing;
    width = bits;
    window = { ...window, to: end };
  }
  const unlike =
    spans.length === 0
      ? NOTHING
      : differingKeys(await sourceDigests(source, entity, spans, width, without), await knownDigests(target, of, spans));
  return { records, unlike, end: window.to };
}

const NOTHING = { missing: [], surplus: [], changed: [] };

/**
 * Spans of the buckets that are not the same on both sides, ascending, within a window; and where the window ends
 * when these have more than `most` records.
 */
export function differingSpans(
  source: readonly Bucket[],
  known: readonly Bucket[],
  window: Span,
  bits: number,
  most = MOST_LISTED,
): { differing: readonly Span[]; end: bigint } {
  const there = new Map(source.map((one) => [one.bucket, one]));
  const here = new Map(known.map((one) => [one.bucket, one]));
  const unlike = [...new Set([...there.keys(), ...here.keys()])]
    .filter((bucket) => there.get(bucket)?.n !== here.get(bucket)?.n || there.get(bucket)?.digest !== here.get(bucket)?.digest)
    .map(BigInt)
    .sort((a, b) => (a < b ? -1 : 1));
  const width = 1n << BigInt(bits);
  const differing: Span[] = [];
  let listed = 0;
  for (const bucket of unlike) {
    const size = Math.max(...[there, here].map((side) => Number(side.get(String(bucket))?.n ?? 0)));
    if (differing.length > 0 && listed + size > most) return { differing, end: differing.at(-1)?.to ?? window.to };
    listed += size;
    const [low, high] = [bucket * width, bucket * width + width - 1n];
    differing.push({ from: low < window.from ? window.from : low, to: high > window.to ? window.to : high });
  }
  return { differing, end: window.to };
}

/** Which records are on one side only, or not as they were read last. */
export function differingKeys(
  source: readonly KeyDigest[],
  known: readonly KeyDigest[],
): Pick<DigestFindings, "missing" | "surplus" | "changed"> {
  const read = new Map(known.map(({ id, digest: hash }) => [id, hash]));
  const [missing, changed]: [string[], string[]] = [[], []];
  for (const { id, digest: hash } of source) {
    if (!read.has(id)) missing.push(id);
    else if (read.get(id) !== hash) changed.push(id);
    read.delete(id);
  }
  return { missing, changed, surplus: [...read.keys()] };
}
