import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { functionSources, nodeModules, runtimeGlobals } from "./support/runtime-apis.ts";

const ROOT = resolve(import.meta.dirname, "..");
const page = readFileSync(resolve(ROOT, "docs/runtime-apis.md"), "utf8");
const rows = [...page.matchAll(/^\| (`.+?`) +\| .+? \| (.+?) +\|$/gm)];
const table = rows.flatMap(([, apis = ""]) => [...apis.matchAll(/`([^`]+)`/g)].map(([, api]) => api)).sort();

describe("docs/runtime-apis.md", () => {
  it("has everything that functions/ and shared/ take from the runtime, and nothing else", { timeout: 60_000 }, async () => {
    const used = functionSources().flatMap((file) => runtimeGlobals(readFileSync(resolve(ROOT, file), "utf8")));
    expect([...new Set([...used, ...(await nodeModules())])].sort()).toEqual(table);
  });

  it("says for each where the hosted runtime has it", () => {
    expect(rows.length).toBeGreaterThan(10);
    for (const [, api, source] of rows) {
      expect(source, api).toMatch(/`[\w/.-]+\.(js|rs|ts)`.*\[[0-9a-f]{7}\]/);
    }
  });
});

describe("what a text takes from the runtime", () => {
  it.each([
    ["Deno.readFile('x')", ["Deno.readFile"]],
    ["const { env } = Deno; env.get('X')", ["Deno"]],
    ["globalThis.alert(1)", ["globalThis.alert"]],
    ["declare const EdgeRuntime: { waitUntil(p: unknown): void }; EdgeRuntime.waitUntil(1)", ["EdgeRuntime.waitUntil"]],
    ["new Worker('x'); new SharedArrayBuffer(1)", ["SharedArrayBuffer", "Worker"]],
    ["const fetch = () => 1; fetch(); new Map([[Math.max(1), JSON]])", []],
    ["let response: Response | undefined; const x = { fetch: 1 }; x.fetch", []],
  ])("%s", (text, apis) => expect(runtimeGlobals(text)).toEqual(apis));
});
