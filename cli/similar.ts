/** The name that was meant, where one differs in a letter of three at most; undefined where none does. */
export function similarName(given: string, names: readonly string[]): string | undefined {
  const [best] = names.map((name) => ({ name, steps: distance(given, name) })).sort((a, b) => a.steps - b.steps);
  return best !== undefined && best.steps > 0 && best.steps * 3 <= best.name.length ? best.name : undefined;
}

/** How many letters are put in, left out or changed between two words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length] ?? 0;
}
