/** JSON kept as text that must be kept whole, as jsonb prints it. */
export function unparseable(text: string): string {
  return `{"_raw": ${JSON.stringify(text)}, "_unparseable": true}`;
}

/** Texts that jsonb must not get as they are: broken, a bare word, and valid JSON that jsonb cannot hold. */
export const NOT_JSON = { object: "{'a': 1}", word: "None", nul: '{"a": "\\u0000"}' } as const;

/** JSON as jsonb prints it already. */
interface Printed {
  readonly printed: string;
}

/** An object as jsonb prints it: shorter keys first. */
export function jsonb(object: Readonly<Record<string, string | number | boolean | null | Printed>>): string {
  const entries = Object.entries(object).sort(([a], [b]) => a.length - b.length || (a < b ? -1 : 1));
  return `{${entries
    .map(([key, value]) => `"${key}": ${typeof value === "object" && value ? value.printed : JSON.stringify(value)}`)
    .join(", ")}}`;
}
