import { existsSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { musicShop } from "./music-shop.ts";
import type { Recomputed } from "./recompute.ts";
import { recomputed } from "./verify.ts";

const ROOT = resolve(import.meta.dirname, "../..");

const OURS: Readonly<Record<string, readonly Recomputed[]>> = { clinic: recomputed, "examples/music-shop": musicShop };

/** The folder that isthmus.json names. */
export function configuredFolder(): string {
  const { installation } = JSON.parse(readFileSync(join(ROOT, "isthmus.json"), "utf8")) as { readonly installation: string };
  return resolve(ROOT, installation);
}

/**
 * What the target of an installation must hold, recomputed. Of an installation that is not ours, verifier.ts in its
 * folder says that.
 * @throws Error when nothing does.
 */
export async function recomputedOf(folder: string): Promise<readonly Recomputed[]> {
  const name = relative(ROOT, folder);
  const ours = OURS[name];
  if (ours !== undefined) return ours;
  const file = join(folder, "verifier.ts");
  if (!existsSync(file))
    throw new Error(
      `Nothing recomputes the installation ${name}. Write ${join(name, "verifier.ts")}, which exports "recomputed", as tests/verifier/music-shop.ts exports "musicShop".`,
    );
  return ((await import(pathToFileURL(file).href)) as { readonly recomputed: readonly Recomputed[] }).recomputed;
}
