import { integerArray } from "../db/ident.ts";

/** Keys from `from` up to `to`, both among them. */
export interface Span {
  readonly from: bigint;
  readonly to: bigint;
}

/** A span's ends as two parameters; none of no span. */
export function spanParameters(span: Span | undefined): string[] {
  return span === undefined ? [] : [String(span.from), String(span.to)];
}

/** Neighbouring keys, aligned to a power of two: how many records there are, and the sum of their hashes. */
export interface Bucket {
  readonly bucket: string;
  readonly n: string;
  readonly digest: string;
}

export interface KeyDigest {
  readonly id: string;
  readonly digest: string | null;
}

export function arraysOf(spans: readonly Span[]): [string, string] {
  return [integerArray(spans.map(({ from }) => String(from))), integerArray(spans.map(({ to }) => String(to)))];
}
