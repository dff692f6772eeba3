import type { Sql } from "postgres";
import { rememberedShapes } from "./catalog.ts";
import { say } from "./finding.ts";
import type { Recomputed } from "./recompute.ts";
import { verify } from "./verify.ts";

/** Findings of one entity that are printed. */
const PRINTED = 20;

/**
 * Compares entities, all or the named ones, and prints what nobody answers for. The catalog is compared with what the
 * sync has compared last. Returns how many findings these are. @throws Error when a name is no entity.
 */
export async function report(
  source: Sql,
  target: Sql,
  definitions: readonly Recomputed[],
  names: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const unknown = names.filter((name) => !definitions.some(({ entity }) => entity === name));
  if (unknown.length > 0) throw new Error(`The installation has no entity ${unknown.join(", ")}.`);
  const chosen = definitions.filter(({ entity }) => names.length === 0 || names.includes(entity));
  const shapes = await rememberedShapes(target);
  let wrong = 0;
  for (const definition of chosen) {
    const { entity, compared, held, findings } = await verify(source, target, definition, shapes);
    const [untold, told] = [findings.filter((one) => one.told === undefined), findings.filter((one) => one.told !== undefined)];
    wrong += untold.length;
    const verdict =
      untold.length === 0 ? (told.length === 0 ? "equal" : `equal, or told why not: ${told.length}`) : `WRONG: ${untold.length}`;
    print(`${entity.padEnd(26)} ${String(compared).padStart(9)} compared ${String(held).padStart(7)} held  ${verdict}`);
    for (const finding of untold.slice(0, PRINTED)) print(`    ${say(finding)}`);
  }
  return wrong;
}
