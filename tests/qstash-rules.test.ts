import { describe, expect, it } from "vitest";
import { defaultBackoffMs, evaluateRetryDelay } from "../local/qstash/backoff.ts";
import { parseDuration, requestedRetryMs } from "../local/qstash/durations.ts";
import { NO_FAULTS, drawFate, seededRandom } from "../local/qstash/faults.ts";
import { FlowLimits } from "../local/qstash/flow-limits.ts";
import { parseDestination, parsePublishSettings } from "../local/qstash/publish-settings.ts";

describe("the wait before a retry", () => {
  it.each([
    [1, 12],
    [2, 148],
    [3, 1_808],
    [4, 22_026],
    [5, 86_400],
    [6, 86_400],
  ])("retry %i waits %i seconds by default", (retry, seconds) => {
    expect(defaultBackoffMs(retry)).toBe(seconds * 1_000);
  });

  it.each([
    ["1000", 2, 1_000],
    ["1000 * (1 + retried)", 2, 3_000],
    ["pow(2, retried) * 1000", 3, 8_000],
    ["max(1000, pow(2, retried) * 100)", 1, 1_000],
    ["max(1000, pow(2, retried) * 100)", 5, 3_200],
    ["round(sqrt(16) / 3 + abs(-2)) - floor(exp(0)) + ceil(0.1) - min(1, 2)", 0, 2],
    ["-5", 0, 0],
    ["pow(10, 12)", 0, 86_400_000],
  ])("the expression %s after %i retries gives %i ms", (expression, retried, expected) => {
    expect(evaluateRetryDelay(expression, retried)).toBe(expected);
  });

  it.each(["", "1000 +", "(1", "process.exit()", "pow(1)", "retried retried", "1/0", "constructor(1)", "1;2"])(
    "the expression %j is refused",
    (expression) => {
      expect(() => evaluateRetryDelay(expression, 0)).toThrow(/retry delay/);
    },
  );
});

describe("durations and Retry-After", () => {
  it.each([
    ["10s", 10_000],
    ["1m30s", 90_000],
    ["2h", 7_200_000],
    ["1d", 86_400_000],
    ["250ms", 250],
    ["10", undefined],
    ["s", undefined],
    ["10s later", undefined],
    ["", undefined],
  ])("%j is %s ms", (text, expected) => {
    expect(parseDuration(text)).toBe(expected);
  });

  const now = Date.parse("2026-01-01T00:00:00Z");
  it.each([
    [{ "retry-after": ["0"] }, 0],
    [{ "retry-after": ["10"] }, 10_000],
    [{ "retry-after": ["6m5s"] }, 365_000],
    [{ "retry-after": ["Thu, 01 Jan 2026 00:00:30 GMT"] }, 30_000],
    [{ "retry-after": ["Wed, 31 Dec 2025 00:00:00 GMT"] }, 0],
    [{ "x-ratelimit-reset": ["7"] }, 7_000],
    [{ "retry-after": ["90000"] }, undefined],
    [{ "retry-after": ["soon"] }, undefined],
    [{}, undefined],
  ])("headers %j ask for %s ms", (headers, expected) => {
    expect(requestedRetryMs(headers, now)).toBe(expected);
  });
});

describe("publish settings", () => {
  it("have the vendor's defaults", () => {
    const settings = parsePublishSettings({});
    expect(settings).toMatchObject({ method: "POST", retries: 3, retryDelay: undefined, timeoutMs: 900_000 });
  });

  it.each([
    ["upstash-method", "TRACE"],
    ["upstash-delay", "soon"],
    ["upstash-not-before", "tomorrow"],
    ["upstash-retries", "-1"],
    ["upstash-timeout", "x"],
    ["upstash-retry-delay", "eval(1)"],
    ["upstash-callback", "ftp://host"],
  ])("a malformed %s (%s) is refused", (name, value) => {
    expect(() => parsePublishSettings({ [name]: [value] })).toThrow(expect.objectContaining({ status: 400 }));
  });

  it.each(["", "parallelism=0", "rate=x", "rate=1, period=never"])("flow control %j is refused", (value) => {
    const headers = { "upstash-flow-control-key": ["k"], "upstash-flow-control-value": [value] };
    expect(() => parsePublishSettings(headers)).toThrow(expect.objectContaining({ status: 400 }));
  });

  it("forward only the content type and what is marked", () => {
    const { forward } = parsePublishSettings({
      "content-type": ["text/plain"],
      "upstash-forward-x-one": ["1"],
      "x-two": ["2"],
      authorization: ["Bearer token"],
    });
    expect(forward).toEqual({ "content-type": ["text/plain"], "x-one": ["1"] });
  });

  it("keep the destination exactly as sent, and refuse what is no URL", () => {
    expect(parseDestination("http://host/a%20b?c=d&e=")).toBe("http://host/a%20b?c=d&e=");
    expect(parseDestination("https%3A%2F%2Fhost%2Fa")).toBe("https://host/a");
    expect(() => parseDestination("my-url-group")).toThrow(/invalid destination url/);
  });
});

describe("flow limits", () => {
  const limits = { key: "k", parallelism: 2, rate: 3, periodMs: 1_000 };

  it("hold back beyond the parallelism until one ends", () => {
    const flow = new FlowLimits();
    flow.start(limits, 0);
    expect(flow.startableAt(limits, 0)).toBe(0);
    flow.start(limits, 0);
    expect(flow.startableAt(limits, 0)).toBeUndefined();
    flow.end(limits);
    expect(flow.startableAt(limits, 0)).toBe(0);
  });

  it("hold back beyond the rate until the period ends", () => {
    const flow = new FlowLimits();
    for (let call = 0; call < 3; call++) {
      flow.start(limits, 100);
      flow.end(limits);
    }
    expect(flow.startableAt(limits, 500)).toBe(1_100);
    expect(flow.startableAt(limits, 1_100)).toBe(0);
  });

  it("count each key by itself", () => {
    const flow = new FlowLimits();
    flow.start({ ...limits, parallelism: 1 }, 0);
    expect(flow.startableAt({ ...limits, key: "other", parallelism: 1 }, 0)).toBe(0);
  });
});

describe("faults", () => {
  it("strike at about the given share, and never when off", () => {
    const random = seededRandom(7);
    const fates = Array.from({ length: 2_000 }, () => drawFate({ ...NO_FAULTS, drop: 0.2, duplicate: 0.5 }, random));
    const dropped = fates.filter((fate) => fate.dropped).length;
    const doubled = fates.filter((fate) => !fate.dropped && fate.waitsMs.length === 2).length;
    expect(dropped / 2_000).toBeCloseTo(0.2, 1);
    expect(doubled / (2_000 - dropped)).toBeCloseTo(0.5, 1);
    const calm = Array.from({ length: 200 }, () => drawFate(NO_FAULTS, random));
    expect(calm.every((fate) => !fate.dropped && fate.waitsMs.length === 1 && fate.waitsMs[0] === 0)).toBe(true);
  });

  it("repeat with the seed, and one switch does not shift another", () => {
    const draws = (faults: Partial<typeof NO_FAULTS>) => {
      const random = seededRandom(3);
      return Array.from({ length: 100 }, () => drawFate({ ...NO_FAULTS, ...faults }, random));
    };
    expect(draws({ drop: 0.3 })).toEqual(draws({ drop: 0.3 }));
    const dropsOf = (fates: ReturnType<typeof draws>) => fates.map((fate) => fate.dropped);
    expect(dropsOf(draws({ drop: 0.3, duplicate: 1, reorder: true, delay: [5, 9] }))).toEqual(dropsOf(draws({ drop: 0.3 })));
  });
});
