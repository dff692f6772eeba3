import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { freePort } from "../local/ports.ts";
import { alertKinds } from "../scripts/generate-alerts.ts";
import { alertName, opsFiles } from "../scripts/generate-ops.ts";
import { ALL_METRICS } from "../shared/metrics/registry.ts";
import { startTestPlatform, type TestPlatform } from "./support/platform.ts";
import { WebhookReceiver } from "./support/webhook.ts";

const ROOT = resolve(import.meta.dirname, "..");
const OPS = join(ROOT, "ops");
const TOKEN = "ism_of-the-tests-0123456789-0123456789";
const run = promisify(execFile);

interface Board {
  readonly title: string;
  readonly annotations: { readonly list: readonly { readonly expr: string }[] };
  readonly panels: readonly { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
}
const boards = readdirSync(join(OPS, "dashboards")).map(
  (file) => JSON.parse(readFileSync(join(OPS, "dashboards", file), "utf8")) as Board,
);

describe("ops/", () => {
  it("is what its sources say (after a change: npm run generate)", async () => {
    for (const [path, text] of Object.entries(await opsFiles())) expect(readFileSync(join(ROOT, path), "utf8"), path).toBe(text);
  });

  it("has rules that promtool takes, one for each kind of alert and for what the database cannot tell; each fires for what it is about alone", async () => {
    const { stdout } = await run("promtool", ["check", "rules", "alert-rules.yml"], { cwd: OPS });
    expect(stdout).toContain(`SUCCESS: ${alertKinds().length + 3} rules found`);
    await run("promtool", ["test", "rules", "alert-rules.test.yml"], { cwd: OPS });
    await run("amtool", ["check-config", "alertmanager.yml"], { cwd: OPS });
  });

  it("has a rule of each kind that fails its test when the kind is another", async () => {
    const folder = mkdtempSync(join(tmpdir(), "isthmus-rules-"));
    try {
      const rules = readFileSync(join(OPS, "alert-rules.yml"), "utf8").replace('kind="brake"', 'kind="break"');
      writeFileSync(join(folder, "alert-rules.yml"), rules);
      writeFileSync(join(folder, "alert-rules.test.yml"), readFileSync(join(OPS, "alert-rules.test.yml")));
      await expect(run("promtool", ["test", "rules", "alert-rules.test.yml"], { cwd: folder })).rejects.toThrow(/IsthmusBrake/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("Prometheus and Alertmanager, over the platform", () => {
  let test: TestPlatform;
  let receiver: WebhookReceiver;
  let prometheus: string;
  const folder = mkdtempSync(join(tmpdir(), "isthmus-ops-"));
  const children: ChildProcess[] = [];
  const begin = (command: string, args: readonly string[]) => {
    const child = spawn(command, args, { cwd: folder, stdio: "ignore" });
    child.on("error", (error) => {
      throw error;
    });
    children.push(child);
  };
  const configured = (file: string, change: readonly (readonly [string, string])[]) => {
    let text = readFileSync(join(OPS, file), "utf8");
    for (const [from, to] of change) {
      expect(text, file).toContain(from);
      text = text.replaceAll(from, to);
    }
    writeFileSync(join(folder, file), text);
  };
  const ask = async (expr: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]> => {
    const answer = await fetch(`${prometheus}/api/v1/query?query=${encodeURIComponent(expr)}`);
    const body = (await answer.json()) as { status: string; error?: string; data?: { result: never[] } };
    if (body.status !== "success") throw new Error(`${expr}: ${body.error}`);
    return body.data?.result ?? [];
  };

  beforeAll(async () => {
    test = await startTestPlatform("ops", { scale: 0.01, env: { METRICS_TOKEN: TOKEN } });
    const { execution } = await test.start();
    await test.finish(execution);
    // As if the job had begun it, and one more that nobody did: panels are about both.
    await test.target`update public.sync_executions set job_id = (select id from public.sync_jobs where name = 'daily') where id = ${execution}`;
    await test.target`update public.sync_jobs set succeeded_at = now(), enabled = false where name = 'daily'`;
    const entity = await test.target<{ id: number }[]>`select min(id) as id from public.sync_entities`;
    await test.target`insert into public.sync_brakes (entity_id, kind, records, landed) values (${entity[0]?.id ?? 0}, 'delete', 9, 10)`;
    await test.target`insert into public.sync_alerts (kind, severity, entity_id, message) values ('brake', 'critical', ${entity[0]?.id ?? 0}, 'test')`;
    await test.platform.call("sync-tick", { body: {} });
    await test.target`select sync.count_queue(id) from public.sync_sources`;

    receiver = await WebhookReceiver.start("unused");
    const [port, managerPort] = [await freePort(), await freePort()];
    prometheus = `http://127.0.0.1:${port}`;
    const functions = new URL(test.platform.functions.url);
    writeFileSync(join(folder, "metrics-token"), TOKEN);
    writeFileSync(join(folder, "alert-rules.yml"), readFileSync(join(OPS, "alert-rules.yml")));
    // The path is a hosted project's.
    configured("prometheus.yml", [
      ["your-project.supabase.co", functions.host],
      ["scheme: https", "scheme: http"],
      ["/functions/v1/sync-trigger", `${functions.pathname.replace(/\/$/, "")}/sync-trigger`],
      ["_interval: 1m", "_interval: 2s"],
      ["scrape_timeout: 20s", "scrape_timeout: 2s"],
      ["127.0.0.1:9093", `127.0.0.1:${managerPort}`],
    ]);
    configured("alertmanager.yml", [
      ["http://127.0.0.1:9099", receiver.base],
      ["group_wait: 10s", "group_wait: 1s"],
    ]);
    await run("promtool", ["check", "config", "prometheus.yml"], { cwd: folder });
    begin("prometheus", [
      "--config.file=prometheus.yml",
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]);
    begin("prometheus-alertmanager", [
      ...["--config.file=alertmanager.yml", `--storage.path=${join(folder, "manager")}`, "--cluster.listen-address="],
      `--web.listen-address=127.0.0.1:${managerPort}`,
    ]);
    await vi.waitFor(async () => expect(await ask('count_over_time(up{job="isthmus"}[5m]) >= 3')).toHaveLength(1), {
      timeout: 60_000,
      interval: 500,
    });
  }, 240_000);

  afterAll(async () => {
    for (const child of children) child.kill("SIGKILL");
    await receiver[Symbol.asyncDispose]();
    await test[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  it("scrape the real function: every metric arrives that there is something to tell of", async () => {
    const up = await ask('up{job="isthmus"}');
    expect(up.map(({ value }) => value[1])).toEqual(["1"]);
    const names = (await ask('count by (__name__) ({job="isthmus", __name__=~"isthmus_.*"})')).map(
      ({ metric }) => metric["__name__"] ?? "",
    );
    // No chain is open, and the job is not enabled.
    const absent = ["isthmus_chains", "isthmus_page_failed_tries", "isthmus_page_sends", "isthmus_job_next_timestamp_seconds"];
    expect(ALL_METRICS.map(([name]) => name).filter((name) => !names.includes(name) && !absent.includes(name))).toEqual([]);
    expect(await ask('{job="isthmus", exported_job!=""}')).toEqual([]);
  });

  const panels = boards.flatMap(({ title, panels }) =>
    panels.flatMap((panel) => panel.targets.map(({ expr }) => ({ title: `${title}, ${panel.title}`, expr }))),
  );
  it.each(panels)("return data for the panel $title", async ({ expr }) => {
    const asked = expr.replaceAll("$instance", ".*").replaceAll("$__rate_interval", "5m");
    expect((await ask(asked)).length, asked).toBeGreaterThan(0);
  });

  it.each(boards)("return when executions began, for the marks of $title", async ({ annotations }) => {
    for (const { expr } of annotations.list) {
      const [begun] = await ask(expr.replaceAll("$instance", ".*"));
      expect(Number(begun?.value[1])).toBeGreaterThan(Date.now() - 3_600_000);
    }
  });

  it("deliver an open alert to the webhook, with what to do, and its end once somebody looks after it", async () => {
    const told = (status: string) =>
      receiver.received.some(({ path, body }) => {
        const alerts = (body["alerts"] ?? []) as {
          status: string;
          labels: Record<string, string>;
          annotations: Record<string, string>;
        }[];
        return (
          path === "/alerts" &&
          alerts.some(
            (one) =>
              one.status === status &&
              one.labels["alertname"] === alertName("brake") &&
              one.labels["severity"] === "critical" &&
              one.annotations["runbook"] === "docs/runbook.md#brake",
          )
        );
      });
    await expect.poll(() => told("firing"), { timeout: 60_000, interval: 500 }).toBe(true);
    await test.target`update public.sync_alerts set acknowledged_by = 'Ada' where kind = 'brake'`;
    await expect
      .poll(async () => (await ask(`ALERTS{alertname="${alertName("brake")}"}`)).length, { timeout: 60_000, interval: 500 })
      .toBe(0);
  });
});
