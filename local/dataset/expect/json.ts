/** JSON kept as text that must be kept whole, as jsonb prints it. */
export function unparseable(text: string): string {
  return `{"_raw": ${JSON.stringify(text)}, "_unparseable": true}`;
}

/** Texts that jsonb must not get as they are: broken, a bare word, and valid JSON that jsonb cannot hold. */
export const NOT_JSON = { object: "{'a': 1}", word: "None", nul: '{"a": "\\u0000"}' } as const;
