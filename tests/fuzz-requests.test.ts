import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { registry } from "../clinic/entities/registry.gen.ts";
import { sourceKinds } from "../clinic/schema/column-kinds.gen.ts";
import { isSelection, selectedEntities, selectionOf, selectiveSync } from "../shared/plan/selective-sync.ts";
import { anyJson, SEED, strangeText, syncRequest } from "./support/hostile.ts";
import {
  createFunctions,
  deliveryClaims,
  secretToken,
  SECRET_KEY,
  SIGNING_KEYS,
  userToken,
  type FunctionName,
} from "./support/handlers.ts";

/** No answer takes longer, or is longer: nobody hangs, and nothing that was sent is sent back whole. */
const LATE_MS = 5_000;
const LONGEST_ANSWER = 30_000;

describe("whatever is sent to the functions", { timeout: 300_000 }, () => {
  const functions = createFunctions();
  const method = fc.constantFrom("POST", "POST", "POST", "POST", "GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS");
  const name = fc.constantFrom<FunctionName>("sync-trigger", "sync-trigger", "sync-trigger", "sync-page", "sync-tick");
  const body = fc.oneof(
    { weight: 4, arbitrary: syncRequest },
    { weight: 2, arbitrary: anyJson },
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.uuid(), fc.uuid(), anyJson)
        .map(([chain, execution, page]) => `{"chain":"${chain}","execution":"${execution}","page":${page}}`),
    },
    { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 40 }) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 40 }) },
    { weight: 1, arbitrary: fc.constantFrom("", " ", "{", "[".repeat(100_000), " ".repeat(5_000), " ".repeat(1_048_577)) },
  );
  const word = fc.oneof(fc.constantFrom("execution", "check", "inspect", "acknowledge", "dryRun"), strangeText);
  const query = fc.oneof(
    { weight: 4, arbitrary: fc.constant("") },
    {
      weight: 1,
      arbitrary: fc.array(fc.tuple(word, strangeText), { minLength: 1, maxLength: 2 }).map((pairs) => {
        const parameters = new URLSearchParams(
          pairs.map(([key, value]): [string, string] => [key.slice(0, 200), value.slice(0, 200)]),
        );
        return `?${parameters.toString()}`;
      }),
    },
  );
  const header = fc.string({ unit: "grapheme-ascii", maxLength: 20 }).map((text) => text.replaceAll(/[^\x20-\x7e]/g, ""));
  const claims = fc.dictionary(
    fc.constantFrom("iss", "aud", "exp", "nbf", "iat", "sub", "role", "app_metadata", "body"),
    fc.jsonValue(),
    {
      maxKeys: 3,
    },
  );
  const proof = fc.oneof(
    { weight: 5, arbitrary: fc.constant({ who: "machine", headers: { apikey: SECRET_KEY } }) },
    {
      weight: 2,
      arbitrary: fc.constant({ who: "operator", headers: { authorization: `Bearer ${userToken(functions.keys)}` } }),
    },
    {
      weight: 2,
      arbitrary: fc
        .dictionary(fc.constantFrom("apikey", "authorization", "upstash-signature", "content-length", "x-any"), header)
        .map((headers) => ({ who: "stranger", headers })),
    },
    {
      weight: 1,
      arbitrary: claims
        .filter((changed) => Object.keys(changed).length > 0)
        .map((changed) => ({
          who: "stranger",
          headers: {
            "upstash-signature": secretToken(SIGNING_KEYS.current, { ...deliveryClaims("sync-page", "-"), ...changed }),
          },
        })),
    },
  );

  it("6,000 requests: each is answered soon, shortly, and with a remedy; none with 500, and no stranger is let in", async () => {
    await fc.assert(
      fc.asyncProperty(name, method, query, proof, body, async (called, verb, asked, { who, headers }, sent) => {
        const bodyless = verb === "GET" || verb === "HEAD";
        const began = Date.now();
        const answer = await functions.call(called, {
          method: verb,
          headers,
          query: asked,
          ...(bodyless ? {} : { body: sent as string }),
        });
        const text = await answer.text();
        expect(Date.now() - began).toBeLessThan(LATE_MS);
        expect(text.length).toBeLessThan(LONGEST_ANSWER);
        const { error } = JSON.parse(text) as { error?: { code: string; remedy: string; message: string } };
        // Nobody answers as the databases here: a request that is right gets that far.
        if (answer.status === 503) expect(error?.code).toMatch(/^(TARGET|SOURCE)_UNAVAILABLE$/);
        else expect([200, 202, 400, 401, 403, 405, 413]).toContain(answer.status);
        if (answer.status >= 400) expect(error?.remedy).toMatch(/\w/);
        if (who === "stranger") expect([401, 405, 413]).toContain(answer.status);
        if (who === "operator" && called !== "sync-trigger") expect([403, 405, 413]).toContain(answer.status);
      }),
      { seed: SEED, numRuns: 6_000, interruptAfterTimeLimit: 280_000, markInterruptAsFailure: true },
    );
    await functions.settled();
    expect(functions.lines.filter((line) => line.includes('"INTERNAL"'))).toEqual([]);
  });
});

describe("what is read of a request", { timeout: 60_000 }, () => {
  const entities = new Map(registry.map((entity) => [entity.name, entity]));
  const schema = selectiveSync(entities, sourceKinds);
  type Raw = Record<string, unknown>;
  const names = (value: unknown) => Object.keys(value ?? {}).sort();

  it("3,000 requests: nothing of one that is accepted vanishes, and no more is selected than it names", () => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.oneof({ weight: 9, arbitrary: syncRequest }, { weight: 1, arbitrary: anyJson }), (json) => {
        const raw = JSON.parse(json) as Raw;
        const parsed = schema.safeParse(raw);
        if (!parsed.success) return;
        accepted += 1;
        const config = parsed.data;
        expect(names(config)).toEqual(names(raw));
        const {
          entities: named = [],
          legacyIds = {},
          filters = {},
        } = raw as { entities?: string[]; legacyIds?: Raw; filters?: Raw };
        expect(names(config.legacyIds)).toEqual(names(legacyIds));
        expect(names(config.filters)).toEqual(names(filters));
        const selects = ["legacyIds", "filters", "dateRange"].some((field) => field in raw);
        expect(isSelection(config)).toBe(selects);
        if (!selects) return;
        const allowed = new Set([...named, ...names(legacyIds), ...names(filters)]);
        for (const entity of selectedEntities(config, entities)) {
          if (allowed.size > 0) expect(allowed).toContain(entity);
          const ids = (legacyIds as Record<string, (number | string)[]>)[entity];
          const selection = selectionOf(config, entities.get(entity) ?? fail(entity), sourceKinds);
          if (ids) {
            expect(selection).toBeUndefined();
            expect(config.legacyIds?.[entity]).toEqual(ids.map((id) => BigInt(id).toString()));
            continue;
          }
          const columns = names((filters as Record<string, Raw>)[entity]);
          expect(selection?.filters?.map(({ column }) => column).sort()).toEqual(columns);
          for (const { values } of selection?.filters ?? []) expect(values.length).toBeGreaterThan(0);
          expect(columns.length > 0 || selection?.dated?.from !== undefined || selection?.dated?.to !== undefined).toBe(true);
        }
      }),
      { seed: SEED, numRuns: 3_000 },
    );
    // A generator whose requests are all refused would show nothing.
    expect(accepted).toBeGreaterThan(200);
  });
});

function fail(entity: string): never {
  throw new Error(`there is no entity ${entity}`);
}
