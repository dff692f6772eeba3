import { createRequire } from "node:module";
import { resolve } from "node:path";

/** The Deno that the hosted runtime is compatible with, and the current one. */
const PACKAGES = { hosted: "deno", current: "deno-current" } as const;

export type DenoRelease = keyof typeof PACKAGES;

const MODULES = resolve(import.meta.dirname, "../../node_modules");

/**
 * The program of a release. Not node_modules/.bin/deno: both packages claim that name. The package's own installer
 * names the program, since its install script may have been left out.
 */
export function denoProgram(release: DenoRelease = chosenRelease()): string {
  const { runInstall } = createRequire(import.meta.url)(resolve(MODULES, PACKAGES[release], "install_api.cjs")) as {
    readonly runInstall: () => string;
  };
  return runInstall();
}

/** ISTHMUS_DENO=current runs the functions on the current Deno; without it they run on the hosted one. */
export function chosenRelease(): DenoRelease {
  const named = process.env["ISTHMUS_DENO"] ?? "hosted";
  if (named === "hosted" || named === "current") return named;
  throw new Error(`ISTHMUS_DENO is ${JSON.stringify(named)}: it names "hosted" or "current".`);
}
