import { present, type Setup } from "./context.ts";

/**
 * What setup has brought into the project, kept in the file beside what it made: the project's secrets and keys do
 * not say whose they are. A name is noted before it is made, so that a run which is broken off leaves nothing that
 * the next one does not know.
 */
export const MADE = { secrets: "ISTHMUS_MADE_SECRETS", keys: "ISTHMUS_MADE_KEYS" } as const;

export function made({ env }: Pick<Setup, "env">, what: keyof typeof MADE): readonly string[] {
  return (present(env()[MADE[what]]) ?? "").split(",").filter((name) => name !== "");
}

export function noteMade(setup: Setup, what: keyof typeof MADE, names: readonly string[]): void {
  const known = made(setup, what);
  const more = names.filter((name) => !known.includes(name));
  if (more.length > 0) setup.keep({ [MADE[what]]: [...known, ...more].join(",") });
}

export function forgetMade(setup: Setup, what: keyof typeof MADE, names: readonly string[]): void {
  const known = made(setup, what);
  const left = known.filter((name) => !names.includes(name));
  if (left.length < known.length) setup.keep({ [MADE[what]]: left.join(",") });
}
