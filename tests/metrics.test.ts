import { metricsToken } from "../cli/setup/metrics-token.ts";
import type { Setup } from "../cli/setup/context.ts";
import { metricsTokenProblem } from "../shared/config.ts";
import { describe, expect, it } from "vitest";
import { METRICS } from "../shared/metrics/registry.ts";
import { openMetrics } from "../shared/metrics/scrape.ts";
import { createFunctions, SECRET_KEY, userToken } from "./support/handlers.ts";

const TOKEN = "m".repeat(20) + "_etrics-TOKEN-0123456789";
const functions = createFunctions({ METRICS_TOKEN: TOKEN });
const answerTo = async (headers: Record<string, string>, query = "?metrics", method = "GET", name = "sync-trigger" as const) => {
  const answer = await functions.call(name, { method, headers, query, ...(method === "POST" ? { body: "{}" } : {}) });
  return { status: answer.status, code: ((await answer.json()) as { error?: { code: string } }).error?.code };
};
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
// Whoever is let in meets a database that is not there.
const LET_IN = { status: 503, code: "TARGET_UNAVAILABLE" };
const REFUSED = { status: 403, code: "FORBIDDEN" };

describe("who reads metrics", () => {
  it("METRICS_TOKEN and a secret key of the project do", async () => {
    expect(await answerTo(bearer(TOKEN))).toEqual(LET_IN);
    expect(await answerTo({ apikey: SECRET_KEY })).toEqual(LET_IN);
  });

  it.each(["operator", "reviewer"])("a signed-in %s does not", async (isthmus_role) => {
    expect(await answerTo(bearer(userToken(functions.keys, { app_metadata: { isthmus_role } })))).toEqual(REFUSED);
  });

  it.each([TOKEN.slice(0, -1), `${TOKEN}x`, TOKEN.toLowerCase(), "x"])("another token does not", async (token) => {
    expect(await answerTo(bearer(token))).toEqual({ status: 401, code: "UNAUTHENTICATED" });
  });

  it("nobody does with a token where none is set", async () => {
    const answer = await createFunctions().call("sync-trigger", { query: "?metrics", headers: bearer("undefined") });
    expect(answer.status).toBe(401);
  });
});

describe("METRICS_TOKEN", () => {
  it.each([
    ["GET", ""],
    ["GET", "?check"],
    ["GET", "?inspect"],
    ["GET", "?execution=6f1f7e1c-2f0b-4c0d-9d52-0a1b2c3d4e5f"],
    ["POST", ""],
    ["POST", "?cancel"],
    ["POST", "?acknowledge"],
  ])("does nothing else: %s %s", async (method, query) => {
    expect(await answerTo(bearer(TOKEN), query, method)).toEqual(REFUSED);
  });

  it.each(["sync-page", "sync-tick"] as const)("calls no %s", async (name) => {
    const answer = await functions.call(name, { method: "POST", headers: bearer(TOKEN), body: "{}" });
    expect(answer.status).toBe(403);
  });

  it("counts as no secret key", async () => {
    expect(await answerTo({ apikey: TOKEN })).toEqual({ status: 401, code: "UNAUTHENTICATED" });
  });

  it.each(["short", "with.three.points".padEnd(40, "x"), "with space".padEnd(40, "x"), "sb_secret_".padEnd(40, "x")])(
    "%s is as none, and stops nothing else; setup refuses it",
    async (token) => {
      const badly = createFunctions({ METRICS_TOKEN: token });
      expect((await badly.call("sync-trigger", { query: "?metrics", headers: bearer(token) })).status).toBe(401);
      expect((await badly.call("sync-page", { method: "POST", headers: bearer("x"), body: "{}" })).status).toBe(401);
      expect(metricsTokenProblem(token)).toMatch(/^must be 32 to 200/);
      await expect(
        (async () => metricsToken.look({ env: () => ({ METRICS_TOKEN: token }) } as unknown as Setup))(),
      ).rejects.toMatchObject({ code: "VARIABLE_INVALID", exitCode: 2 });
    },
  );
});

describe("the text of a scrape", () => {
  it("is OpenMetrics: types, _total once, labels escaped, an end", async () => {
    const { contentType, text } = await openMetrics([
      { metric: "isthmus_pages_total", labels: { source: "legacy", entity: 'a"b\\c\nd', sync_job: "" }, value: 12 },
      { metric: "isthmus_executions_running", labels: {}, value: 1 },
    ]);
    expect(contentType).toMatch(/^application\/openmetrics-text; version=1\.0\.0/);
    expect(text).toContain("# TYPE isthmus_pages counter\n");
    expect(text).toContain('isthmus_pages_total{source="legacy",entity="a\\"b\\\\c\\nd",sync_job=""} 12\n');
    expect(text).toMatch(/^isthmus_executions_running 1$/m);
    expect(text.endsWith("# EOF\n")).toBe(true);
  });

  it("takes nothing that is not described", async () => {
    await expect(openMetrics([{ metric: "isthmus_unknown", labels: {}, value: 1 }])).rejects.toThrow("isthmus_unknown");
    await expect(openMetrics([{ metric: "isthmus_brakes", labels: { colour: "red" }, value: 1 }])).rejects.toThrow("colour");
  });

  it("has the user's seven metrics under their names", () => {
    const helps = Object.values(METRICS).map(({ help }) => help.split(":")[0]);
    for (const name of [
      "recordsProcessed",
      "successRate",
      "averageLatency",
      "errorRate",
      "throughputPerSecond",
      "uuidCacheHitRate",
      "conflictResolutionRate",
    ])
      expect(helps).toContain(name);
  });

  it("names counters, and nothing else, with _total", () => {
    for (const [name, { type }] of Object.entries(METRICS))
      expect([name, name.endsWith("_total")]).toEqual([name, type === "counter"]);
  });
});
