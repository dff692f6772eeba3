import type { MetricName } from "../shared/metrics/registry.ts";

/** One panel: what it is called, what it asks, and how its series are called. */
interface Panel {
  readonly title: string;
  readonly kind: "timeseries" | "stat" | "table" | "bargauge";
  readonly unit?: string;
  readonly queries: readonly { readonly expr: string; readonly legend: string }[];
}

export interface Dashboard {
  readonly file: string;
  readonly title: string;
  readonly panels: readonly Panel[];
}

/** A name that the registry has: a misspelt one does not compile. */
const m = (name: MetricName): MetricName => name;
const one = (title: string, kind: Panel["kind"], expr: string, legend: string, unit?: string): Panel => ({
  title,
  kind,
  queries: [{ expr, legend }],
  ...(unit === undefined ? {} : { unit }),
});
const rate = (name: MetricName, by: string) => `sum by (${by}) (rate(${name}{instance=~"$instance"}[$__rate_interval]))`;
const day = (name: MetricName, by: string) => `sum by (${by}) (increase(${name}{instance=~"$instance"}[1d]))`;
const now = (name: MetricName) => `${name}{instance=~"$instance"}`;

export const DASHBOARDS: readonly Dashboard[] = [
  {
    file: "overview.json",
    title: "Isthmus: Overview",
    panels: [
      one("Open alerts", "stat", now(m("isthmus_alerts")), "{{severity}}"),
      one("Brakes that wait for a person", "stat", `sum(${now(m("isthmus_brakes"))}) or vector(0)`, "brakes"),
      one("Executions under way", "stat", now(m("isthmus_executions_running")), "running"),
      one("Since the last tick", "stat", `time() - ${now(m("isthmus_tick_last_end_timestamp_seconds"))}`, "tick", "s"),
      one("Source answers", "stat", now(m("isthmus_source_up")), "{{source}}"),
      one(
        "Since the last success",
        "stat",
        `time() - ${now(m("isthmus_job_last_success_timestamp_seconds"))}`,
        "{{sync_job}}",
        "s",
      ),
      one("Status of the latest execution", "table", `${now(m("isthmus_execution_status"))} == 1`, "{{sync_job}} {{status}}"),
      one(
        "Records processed by the latest execution",
        "timeseries",
        now(m("isthmus_records_processed")),
        "{{sync_job}}",
        "short",
      ),
      {
        title: "Success and error rate of the latest execution",
        kind: "timeseries",
        unit: "percentunit",
        queries: [
          { expr: now(m("isthmus_success_rate")), legend: "success {{sync_job}}" },
          { expr: now(m("isthmus_error_rate")), legend: "error {{sync_job}}" },
        ],
      },
      one("Records by outcome", "timeseries", rate(m("isthmus_records_total"), "outcome"), "{{outcome}}", "rps"),
      one("Executions by status, a day", "timeseries", day(m("isthmus_executions_total"), "status"), "{{status}}"),
      one("Jobs that wait", "timeseries", now(m("isthmus_job_waiting_seconds")), "{{sync_job}}", "s"),
      one(
        "Open alerts by kind",
        "table",
        `sum by (kind, severity, entity) (${now(m("isthmus_alerts_open"))})`,
        "{{kind}} {{entity}}",
      ),
    ],
  },
  {
    file: "entities.json",
    title: "Isthmus: Entities",
    panels: [
      one(
        "Not in step for",
        "bargauge",
        `sort_desc(max by (entity) (${now(m("isthmus_entity_lag_seconds"))}))`,
        "{{entity}}",
        "s",
      ),
      one("Records by outcome, a day", "table", day(m("isthmus_records_total"), "entity, outcome"), "{{entity}} {{outcome}}"),
      one(
        "Records written",
        "timeseries",
        `sum by (entity) (rate(isthmus_records_total{instance=~"$instance",outcome=~"inserted|updated|deleted"}[$__rate_interval]))`,
        "{{entity}}",
        "rps",
      ),
      one(
        "Records rejected",
        "timeseries",
        `sum by (entity) (rate(isthmus_records_total{instance=~"$instance",outcome=~"waiting|in_conflict"}[$__rate_interval]))`,
        "{{entity}}",
        "rps",
      ),
      one("Values overwritten", "timeseries", rate(m("isthmus_records_overwritten_total"), "entity"), "{{entity}}", "rps"),
      one(
        "Chains under way",
        "timeseries",
        `sum by (entity, state) (${now(m("isthmus_chains"))}) or vector(0)`,
        "{{entity}} {{state}}",
      ),
      one(
        "Pages tried in vain",
        "timeseries",
        `max by (entity) (${now(m("isthmus_page_failed_tries"))}) or vector(0)`,
        "{{entity}}",
      ),
      one("Pages sent again", "timeseries", `sum by (entity) (${now(m("isthmus_page_sends"))}) or vector(0)`, "{{entity}}"),
      one("Brakes", "table", `${now(m("isthmus_brakes"))} or vector(0)`, "{{entity}} {{kind}}"),
    ],
  },
  {
    file: "queue.json",
    title: "Isthmus: Queue",
    panels: [
      one("Records in the queue", "timeseries", `sum by (state) (${now(m("isthmus_queue_records"))})`, "{{state}}"),
      one("By type", "timeseries", `sum by (type) (${now(m("isthmus_queue_records"))})`, "{{type}}"),
      one("By entity", "bargauge", `sort_desc(sum by (entity) (${now(m("isthmus_queue_records"))}))`, "{{entity}}"),
      one(
        "Age of the oldest",
        "timeseries",
        `max by (entity, state) (${now(m("isthmus_queue_oldest_seconds"))})`,
        "{{entity}} {{state}}",
        "s",
      ),
      one(
        "Share resolved by the latest execution",
        "timeseries",
        now(m("isthmus_conflict_resolution_rate")),
        "{{sync_job}}",
        "percentunit",
      ),
      one(
        "Records rejected, a day",
        "table",
        `sum by (entity, outcome) (increase(isthmus_records_total{instance=~"$instance",outcome=~"waiting|in_conflict"}[1d]))`,
        "{{entity}} {{outcome}}",
      ),
    ],
  },
  {
    file: "performance-and-cost.json",
    title: "Isthmus: Performance and cost",
    panels: [
      {
        title: "Duration of the latest execution, and what is usual",
        kind: "timeseries",
        unit: "s",
        queries: [
          { expr: now(m("isthmus_execution_duration_seconds")), legend: "{{sync_job}}" },
          { expr: now(m("isthmus_job_usual_duration_seconds")), legend: "usual {{sync_job}}" },
        ],
      },
      one("Throughput of the latest execution", "timeseries", now(m("isthmus_throughput_per_second")), "{{sync_job}}", "rps"),
      one("Mean wall time of a page", "timeseries", now(m("isthmus_average_latency_seconds")), "{{sync_job}}", "s"),
      one(
        "Seconds of work by entity, a day",
        "bargauge",
        `sort_desc(${day(m("isthmus_page_seconds_total"), "entity")})`,
        "{{entity}}",
        "s",
      ),
      one(
        "Pages a day: invocations and messages, at least",
        "timeseries",
        `sum(increase(isthmus_pages_total{instance=~"$instance"}[1d]))`,
        "pages",
      ),
      one(
        "Seconds of executions, a day",
        "timeseries",
        day(m("isthmus_execution_seconds_total"), "sync_job"),
        "{{sync_job}}",
        "s",
      ),
      one(
        "Look-ups that the cache answered",
        "timeseries",
        `sum(rate(isthmus_cache_hits_total{instance=~"$instance"}[1h])) / (sum(rate(isthmus_cache_lookups_total{instance=~"$instance"}[1h])) > 0) or vector(0)`,
        "share",
        "percentunit",
      ),
      one(
        "Cache hit rate of the latest execution",
        "timeseries",
        now(m("isthmus_uuid_cache_hit_rate")),
        "{{sync_job}}",
        "percentunit",
      ),
      one("Heap of an isolate", "timeseries", `max by (entity) (${now(m("isthmus_page_heap_bytes"))})`, "{{entity}}", "bytes"),
      {
        title: "Connections to the target",
        kind: "timeseries",
        queries: [
          { expr: now(m("isthmus_database_connections")), legend: "{{role}}" },
          { expr: now(m("isthmus_database_connections_max")), legend: "most" },
        ],
      },
      one("Size of the sync's tables", "timeseries", now(m("isthmus_table_bytes")), "{{table}}", "bytes"),
      one("Rows of the sync's tables (estimates)", "table", now(m("isthmus_table_rows_estimate")), "{{table}}"),
    ],
  },
];

const SOURCE = { type: "prometheus", uid: "${datasource}" };
const WIDTH = 8;
const HEIGHT = 8;

/** A dashboard as Grafana imports it. Executions are marked over all its panels. */
export function dashboardJson({ title, panels }: Dashboard): object {
  return {
    title,
    uid: title.toLowerCase().replace(/[^a-z]+/g, "-"),
    tags: ["isthmus"],
    schemaVersion: 39,
    editable: true,
    refresh: "1m",
    time: { from: "now-24h", to: "now" },
    templating: {
      list: [
        { name: "datasource", type: "datasource", query: "prometheus", label: "Data source" },
        {
          ...{
            name: "instance",
            type: "query",
            label: "Installation",
            datasource: SOURCE,
            refresh: 2,
            includeAll: true,
            multi: true,
          },
          ...{ allValue: ".*", current: { text: "All", value: "$__all" } },
          query: { query: "label_values(isthmus_executions_running, instance)", refId: "instance" },
        },
      ],
    },
    annotations: {
      list: [
        {
          ...{ name: "Executions", enable: true, iconColor: "blue", datasource: SOURCE, step: "60s", useValueForTime: true },
          expr: `${m("isthmus_execution_started_timestamp_seconds")}{instance=~"$instance"} * 1000`,
          ...{ titleFormat: "Execution begun", textFormat: "{{sync_job}}", tagKeys: "sync_job" },
        },
      ],
    },
    panels: panels.map(({ title: name, kind, unit, queries }, at) => ({
      id: at + 1,
      title: name,
      type: kind,
      datasource: SOURCE,
      gridPos: { x: (at % 3) * WIDTH, y: Math.floor(at / 3) * HEIGHT, w: WIDTH, h: HEIGHT },
      fieldConfig: { defaults: { unit: unit ?? "short" }, overrides: [] },
      options: {},
      targets: queries.map(({ expr, legend }, n) => ({
        refId: String.fromCharCode(65 + n),
        datasource: SOURCE,
        expr,
        legendFormat: legend,
        ...(kind === "timeseries" ? { range: true } : { instant: true, ...(kind === "table" ? { format: "table" } : {}) }),
      })),
    })),
  };
}
