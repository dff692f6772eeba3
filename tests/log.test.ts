import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { createLog } from "../shared/log.ts";

const ROOT = resolve(import.meta.dirname, "..");
const page = readFileSync(join(ROOT, "docs/metrics.md"), "utf8");

describe("a line of the log", () => {
  const lines: string[] = [];
  const log = createLog((line) => void lines.push(line), { function: "sync-page" });
  const last = () => JSON.parse(lines.at(-1) ?? "") as Record<string, unknown>;

  it("has level, event and function, whatever its fields are called", () => {
    log.info("page", { level: "mine", event: "mine", records: 3 });
    expect(last()).toEqual({ level: "info", event: "page", function: "sync-page", records: 3 });
    log.with({ chain: "c" }).error("page.failed", { code: "INTERNAL" });
    expect(last()).toEqual({ level: "error", event: "page.failed", function: "sync-page", chain: "c", code: "INTERNAL" });
  });

  it.each(["x", '"', "\n"])("is JSON below the platform's limit however long its fields are (%j)", (text) => {
    log.error("request.failed", { message: text.repeat(50_000) });
    expect(lines.at(-1)?.length).toBeLessThan(10_000);
    expect(last()).toMatchObject({
      level: "error",
      event: "request.failed",
      function: "sync-page",
      cut: expect.any(String) as string,
    });
  });
});

describe("the events of the log", () => {
  it("are those that docs/metrics.md has", () => {
    const files = ["functions", "shared"].flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
        .filter((file) => file.endsWith(".ts"))
        .map((file) => readFileSync(join(ROOT, folder, file), "utf8")),
    );
    const used = files.flatMap((text) =>
      Array.from(text.matchAll(/\blog\s*\.(?:info|error)\(\s*"([^"]+)"/g), ([, event = ""]) => event),
    );
    const told = Array.from(page.matchAll(/^\| `([a-z_.]+)` +\| (?:info|error)/gm), ([, event = ""]) => event);
    expect(told.toSorted()).toEqual([...new Set(used)].sort());
  });
});
