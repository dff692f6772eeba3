/**
 * A number that whoever runs the tests may set in the environment.
 * @throws Error when what is set is no number, or less than `least`: a test would play nothing, and be green.
 */
export function numberSet(name: string, otherwise: number, least = 1): number {
  const text = process.env[name];
  if (text === undefined) return otherwise;
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!Number.isFinite(value) || value < least) throw new Error(`${name}: ${JSON.stringify(text)} is no number from ${least} up`);
  return value;
}

/** The same of a count or a seed, which has no fraction. */
export function wholeSet(name: string, otherwise: number, least = 1): number {
  const value = numberSet(name, otherwise, least);
  if (!Number.isSafeInteger(value)) throw new Error(`${name}: ${value} is no whole number`);
  return value;
}
