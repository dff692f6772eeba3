/** One metric of a scrape. docs/metrics.md is generated from these. */
export interface Metric {
  readonly type: "counter" | "gauge";
  readonly labels: readonly string[];
  /** In words; the name ends with it where Prometheus wants that. */
  readonly unit: string;
  /** Where sync.metrics() has it from. */
  readonly source: string;
  readonly help: string;
}

const gauge = (labels: readonly string[], unit: string, source: string, help: string): Metric => ({
  type: "gauge",
  labels,
  unit,
  source,
  help,
});
const counter = (labels: readonly string[], unit: string, source: string, help: string): Metric => ({
  type: "counter",
  labels,
  unit,
  source,
  help,
});

const JOB = ["sync_job"];
const ENTITY = ["source", "entity"];
const ENTITY_JOB = ["source", "entity", "sync_job"];
const SEVEN = "metrics of the job's latest ended execution (sync_executions)";
const TOTALS = "sync_totals, and chains of executions under way";

/**
 * Every metric by its name. A counter counts since the installation, dry runs left out. `sync_job` is empty for what
 * no job began. Labels hold names of entities, jobs, tables and kinds alone.
 */
export const METRICS = {
  isthmus_records_processed: gauge(JOB, "records", SEVEN, "recordsProcessed: records read, over all pages."),
  isthmus_success_rate: gauge(
    JOB,
    "share",
    SEVEN,
    "successRate: (inserted + updated + unchanged + deleted + waived) / processed.",
  ),
  isthmus_average_latency_seconds: gauge(JOB, "seconds", SEVEN, "averageLatency: mean wall time of a page."),
  isthmus_error_rate: gauge(JOB, "share", SEVEN, "errorRate: (waiting + in conflict, but for what landed later) / processed."),
  isthmus_throughput_per_second: gauge(
    JOB,
    "records per second",
    SEVEN,
    "throughputPerSecond: processed / seconds of the execution.",
  ),
  isthmus_uuid_cache_hit_rate: gauge(JOB, "share", SEVEN, "uuidCacheHitRate: look-ups of parents' ids that the cache answered."),
  isthmus_conflict_resolution_rate: gauge(
    JOB,
    "share",
    SEVEN,
    "conflictResolutionRate: of the queue entries made or resolved by the execution, the share it resolved.",
  ),

  isthmus_executions_total: counter(
    [...JOB, "status"],
    "executions",
    "sync_totals",
    "Ended executions by the status they ended with.",
  ),
  isthmus_execution_seconds_total: counter(JOB, "seconds", "sync_totals", "Time from begin to end of ended executions."),
  isthmus_executions_running: gauge([], "executions", "sync_executions", "Executions under way, dry runs left out."),
  isthmus_execution_started_timestamp_seconds: gauge(
    JOB,
    "seconds since 1970",
    "sync_executions",
    "When the latest execution began.",
  ),
  isthmus_execution_duration_seconds: gauge(
    JOB,
    "seconds",
    "sync_executions",
    "How long the latest execution took, or has taken so far.",
  ),
  isthmus_execution_status: gauge([...JOB, "status"], "0 or 1", "sync_executions", "1 for the status of the latest execution."),
  isthmus_job_enabled: gauge(JOB, "0 or 1", "sync_jobs", "1: the job runs by itself."),
  isthmus_job_last_success_timestamp_seconds: gauge(
    JOB,
    "seconds since 1970",
    "sync_jobs",
    "When its latest execution that succeeded had ended.",
  ),
  isthmus_job_next_timestamp_seconds: gauge(JOB, "seconds since 1970", "sync_jobs", "When an enabled job is due next."),
  isthmus_job_waiting_seconds: gauge(
    JOB,
    "seconds",
    "sync_jobs",
    "For how long it is due and could not begin; 0: it does not wait.",
  ),
  isthmus_job_attempts: gauge(JOB, "tries", "sync_jobs", "How often it was tried in vain since it last began an execution."),
  isthmus_job_usual_duration_seconds: gauge(
    JOB,
    "seconds",
    "sync_executions",
    "Median of its last fourteen executions that succeeded: what is to be expected.",
  ),

  isthmus_records_total: counter(
    [...ENTITY_JOB, "outcome"],
    "records",
    TOTALS,
    "Records that pages have read, by what became of each: inserted, updated, unchanged, deleted, waiting, in_conflict or waived.",
  ),
  isthmus_records_overwritten_total: counter(
    ENTITY_JOB,
    "records",
    TOTALS,
    "Records that the sync knew and that got another value where one stood.",
  ),
  isthmus_pages_total: counter(
    ENTITY_JOB,
    "pages",
    TOTALS,
    "Committed pages. Each was one message at least, and one invocation.",
  ),
  isthmus_page_seconds_total: counter(ENTITY_JOB, "seconds", TOTALS, "Wall time of committed pages."),
  isthmus_cache_lookups_total: counter(ENTITY_JOB, "look-ups", TOTALS, "Ids of parents that pages asked the cache for."),
  isthmus_cache_hits_total: counter(ENTITY_JOB, "look-ups", TOTALS, "Of these, what the cache answered."),
  isthmus_entity_lag_seconds: gauge(
    ENTITY,
    "seconds",
    "sync_checkpoints",
    "For how long the entity is not known to be in step: since the execution began that read it last.",
  ),
  isthmus_chains: gauge(
    [...ENTITY, "state"],
    "chains",
    "sync_chains",
    "Chains of executions under way. Nothing is there while none is.",
  ),
  isthmus_page_failed_tries: gauge(
    ENTITY,
    "tries",
    "sync_chains",
    "The most tries in vain of a page that is next in an open chain.",
  ),
  isthmus_page_sends: gauge(ENTITY, "messages", "sync_chains", "How often pages that are next in open chains were sent again."),
  isthmus_page_heap_bytes: gauge(
    ENTITY,
    "bytes",
    "the last 200 rows of sync_page_log",
    "The largest heap of an isolate before a commit. Nothing where the runtime does not tell.",
  ),
  isthmus_queue_records: gauge(
    [...ENTITY, "state", "type"],
    "records",
    "sync_queue_counts",
    "Records in the queue, as the last tick counted them.",
  ),
  isthmus_queue_oldest_seconds: gauge(
    [...ENTITY, "state", "type"],
    "seconds",
    "sync_queue_counts",
    "Age of the oldest of these.",
  ),
  isthmus_brakes: gauge(
    [...ENTITY, "kind"],
    "brakes",
    "sync_brakes",
    "What waits for a person's confirmation: delete, null or overwrite.",
  ),

  isthmus_alerts: gauge(["severity"], "alerts", "sync_alerts", "Open alerts."),
  isthmus_alerts_open: gauge(
    ["kind", "severity", "entity", "acknowledged"],
    "alerts",
    "sync_alerts",
    "Open alerts by kind. docs/runbook.md has each kind. entity is empty where an alert is about none.",
  ),
  isthmus_source_up: gauge(["source"], "0 or 1", "sync_sources", "0: the source refuses connections or does not answer."),
  isthmus_tick_last_end_timestamp_seconds: gauge([], "seconds since 1970", "sync_ticks", "When sync-tick last came to its end."),
  isthmus_tick_failed_parts: gauge([], "parts", "sync_ticks", "Parts of the work of the last tick that failed."),
  isthmus_database_connections: gauge(
    ["role"],
    "connections",
    "pg_stat_activity",
    "Connections to the target's database: isthmus_worker, or others.",
  ),
  isthmus_database_connections_max: gauge(
    [],
    "connections",
    "max_connections",
    "How many connections the target's server takes.",
  ),
  isthmus_table_bytes: gauge(["table"], "bytes", "pg_total_relation_size", "Size of a table of the sync, indexes included."),
  isthmus_table_rows_estimate: gauge(
    ["table"],
    "rows",
    "pg_class.reltuples",
    "Rows of a table of the sync, as the server estimated them last.",
  ),
} as const satisfies Readonly<Record<string, Metric>>;

export type MetricName = keyof typeof METRICS;

/** Every metric with its name. */
export const ALL_METRICS: readonly (readonly [MetricName, Metric])[] = Object.entries(METRICS) as [MetricName, Metric][];
