// Conditions on values and on records. Each has a name and a version that the queue shows: raise the version when the
// meaning changes.

/** A condition on one value of a field. A record that breaks it goes to the queue. NULL breaks nothing but `required`. */
export interface ValueRule {
  readonly id: string;
  readonly version: number;
  readonly remedy: string;
  readonly holds: (value: string) => boolean;
}

/** park: the record goes to the queue. warn: it lands, and sync_warnings names it. */
export type Severity = "park" | "warn";

/** A condition on a whole record, that is on its target columns as text. sync_rule_overrides can change its severity for a time. */
export interface RecordRule<Column extends string = string> {
  readonly id: string;
  readonly version: number;
  readonly severity: Severity;
  /** The columns that it looks at. */
  readonly fields: readonly Column[];
  readonly remedy: string;
  readonly holds: (record: Readonly<Record<Column, string | null>>) => boolean;
}

/** How a rule of an entity is called in the queue, in sync_warnings and in sync_rule_overrides. */
export function ruleName(entity: string, rule: { readonly id: string; readonly version: number }): string {
  return `${entity}.${rule.id}@${rule.version}`;
}

/** A number from min to max, both included; exact, however many digits it has. */
export function range(bounds: { readonly min?: string; readonly max?: string }): ValueRule {
  return {
    id: "range",
    version: 1,
    remedy: `The number must be${bounds.min === undefined ? "" : ` at least ${bounds.min}`}${bounds.max === undefined ? "" : ` at most ${bounds.max}`}: correct it in the source.`,
    holds: (value) =>
      isDecimal(value) &&
      (bounds.min === undefined || compareDecimals(value, bounds.min) >= 0) &&
      (bounds.max === undefined || compareDecimals(value, bounds.max) <= 0),
  };
}

/** A text of min to max characters, both included. */
export function length(bounds: { readonly min?: number; readonly max?: number }): ValueRule {
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = bounds;
  return {
    id: "length",
    version: 1,
    remedy: `The text must have ${bounds.max === undefined ? `at least ${min}` : `${min} to ${max}`} characters: correct it in the source.`,
    holds: (value) => {
      // Code points, as PostgreSQL counts.
      const characters = Array.from(value).length;
      return min <= characters && characters <= max;
    },
  };
}

/** A text that the pattern describes from its first to its last character. `like` says it to people. */
export function pattern(id: string, version: number, expression: RegExp, like: string): ValueRule {
  const whole = new RegExp(`^(?:${expression.source})$`, expression.flags.replaceAll(/[gy]/g, ""));
  return {
    id,
    version,
    remedy: `The text must look like ${like}: correct it in the source.`,
    holds: (value) => whole.test(value),
  };
}

/** One of the given texts. */
export function member(...members: readonly string[]): ValueRule {
  const known = new Set(members);
  return {
    id: "member",
    version: 1,
    remedy: `The value must be one of ${members.join(", ")}: correct it in the source.`,
    holds: (value) => known.has(value),
  };
}

/** A UUID in the form that PostgreSQL prints (RFC 9562). */
export function uuidFormat(): ValueRule {
  return pattern("uuid_format", 1, /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/i, "a UUID");
}

const DECIMAL = /^(-?)(\d+)(?:\.(\d+))?$/;

/** Whether the text is a finite decimal number without an exponent, as PostgreSQL prints numeric and integers. */
export function isDecimal(text: string): boolean {
  return DECIMAL.test(text);
}

/**
 * Below, equal or above zero as a is less than, equal to or greater than b; infinities and NaN where PostgreSQL sorts
 * them.
 * @throws RangeError when one is no number.
 */
export function compareDecimals(a: string, b: string): number {
  const rank = (text: string) => ({ "-Infinity": -1, Infinity: 1, NaN: 2 })[text] ?? 0;
  if (rank(a) !== 0 || rank(b) !== 0) return rank(a) - rank(b);
  const scale = Math.max(fraction(a).length, fraction(b).length);
  const difference = scaled(a, scale) - scaled(b, scale);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

function fraction(text: string): string {
  return DECIMAL.exec(text)?.[3] ?? "";
}

function scaled(text: string, scale: number): bigint {
  const match = DECIMAL.exec(text);
  if (!match) throw new RangeError("not a decimal number");
  const [, sign, whole = "", digits = ""] = match;
  const value = BigInt(whole + digits.padEnd(scale, "0"));
  return sign === "-" ? -value : value;
}
