import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as echarts from "echarts";
import type { Peer } from "./peers.ts";
import { median } from "./servers.ts";

/** One execution of the pipeline. CPU of a server is that of all its processes, of the functions that of all their isolates. */
export interface Execution {
  readonly name: string;
  readonly records: number;
  readonly seconds: number;
  readonly pages: number;
  readonly targetCpuMs: number;
  readonly sourceCpuMs: number;
  readonly functionCpuMs: number;
}

export interface Bench {
  readonly date: string;
  readonly machine: string;
  readonly runs: { records: number; executions: Execution[]; peers: Peer[]; stateBytes: number }[];
}

interface Line {
  readonly what: string;
  readonly measured: number;
  readonly unit: string;
  readonly reached: boolean;
  readonly goal: string;
}

/** bench/results/<date>.json with every figure, bench/RESULTS.md with medians, and a chart of the rates. */
export async function writeReport(folder: string, bench: Bench): Promise<void> {
  await writeFile(join(folder, "results", `${bench.date}.json`), `${JSON.stringify(bench, null, 2)}\n`);
  const sizes = [...new Set(bench.runs.map(({ records }) => records))];
  const parts: string[] = [];
  for (const records of sizes) {
    const chart = `results/${bench.date}-${records}.svg`;
    await writeFile(join(folder, chart), chartOf(bench, records));
    parts.push(sectionOf(bench, records, chart));
  }
  await writeFile(
    join(folder, "RESULTS.md"),
    `# Results of \`npm run bench\`

${bench.date}, ${bench.machine}. Source, target, functions and the stand-in of QStash share the machine; medians of ${bench.runs.length / sizes.length} runs, each from nothing.
CPU is in milliseconds per 1,000 records, by the operating system. Ratios travel to other machines better than seconds do.

${parts.join("\n")}`,
  );
}

/** Median over the runs of one size. */
function of(bench: Bench, records: number, figure: (run: Bench["runs"][number]) => number): number {
  return median(bench.runs.filter((run) => run.records === records).map(figure));
}
const executionOf = (name: string) => (run: Bench["runs"][number]) => run.executions.find((one) => one.name === name);
const peerOf = (name: string) => (run: Bench["runs"][number]) => run.peers.find((one) => one.name === name);
const rate = (one: { records: number; seconds: number } | undefined) => (one === undefined ? NaN : one.records / one.seconds);

function rates(bench: Bench, records: number): [name: string, rate: number][] {
  const [run] = bench.runs;
  return [
    ...(run?.executions ?? []).map(({ name }): [string, number] => [
      `Isthmus, ${name}`,
      of(bench, records, (r) => rate(executionOf(name)(r))),
    ]),
    ...(run?.peers ?? []).map(({ name }): [string, number] => [name, of(bench, records, (r) => rate(peerOf(name)(r)))]),
  ];
}

/** The figures to reach, each with what was measured. */
function linesOf(bench: Bench, records: number): Line[] {
  const per = (name: string, side: "targetCpuMs" | "sourceCpuMs" | "functionCpuMs") =>
    of(bench, records, (run) => {
      const one = executionOf(name)(run);
      return one === undefined ? NaN : (one[side] * 1_000) / one.records;
    });
  const ratio = (name: string, peer: string) =>
    of(bench, records, (run) => rate(executionOf(name)(run)) / rate(peerOf(peer)(run)));
  const most = (what: string, measured: number, goal: number, unit: string) => ({
    what,
    measured,
    unit,
    reached: measured <= goal,
    goal: `≤ ${goal}`,
  });
  const least = (what: string, measured: number, goal: number, unit: string) => ({
    what,
    measured,
    unit,
    reached: measured >= goal,
    goal: `≥ ${goal}`,
  });
  return [
    least("first load against set-based SQL over postgres_fdw", ratio("first load", "set-based SQL over postgres_fdw"), 0.7, "×"),
    least("first load against record by record", ratio("first load", "record by record"), 50, "×"),
    most("first load, CPU of the target", per("first load", "targetCpuMs"), 60, "ms"),
    most("first load, CPU of the functions", per("first load", "functionCpuMs"), 15, "ms"),
    most("first load, CPU of the source", per("first load", "sourceCpuMs"), 10, "ms"),
    least(
      "everything again, nothing changed",
      of(bench, records, (run) => rate(executionOf("everything again")(run))),
      40_000,
      "records/s",
    ),
    most("everything again, CPU of the target", per("everything again", "targetCpuMs"), 12, "ms"),
    most("everything again, CPU of the functions", per("everything again", "functionCpuMs"), 3, "ms"),
    most("digest, CPU of the target", per("digest", "targetCpuMs"), 3, "ms"),
    most("digest, CPU of the source", per("digest", "sourceCpuMs"), 8, "ms"),
    most(
      "mapping and row state of a record, indexes included",
      of(bench, records, (run) => run.stateBytes),
      200,
      "bytes",
    ),
  ];
}

function sectionOf(bench: Bench, records: number, chart: string): string {
  const number = (value: number) => (value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 10 ? 1 : 2));
  const figures = linesOf(bench, records).map(
    ({ what, measured, unit, goal, reached }) =>
      `| ${what} | ${number(measured)} ${unit} | ${goal} | ${reached ? "reached" : "not reached"} |`,
  );
  const speeds = rates(bench, records).map(([name, value]) => `| ${name} | ${number(value)} |`);
  return `## ${records.toLocaleString("en")} user actions

![Records per second](${chart})

| way | records/s |
| --- | --- |
${speeds.join("\n")}

| figure | measured | to reach | |
| --- | --- | --- | --- |
${figures.join("\n")}
`;
}

function chartOf(bench: Bench, records: number): string {
  const bars = rates(bench, records).reverse();
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: 760, height: 60 + 44 * bars.length });
  chart.setOption({
    animation: false,
    grid: { left: 260, right: 90, top: 20, bottom: 40 },
    xAxis: { type: "log", name: "records/s", min: 100 },
    yAxis: { type: "category", data: bars.map(([name]) => name) },
    series: [
      {
        type: "bar",
        data: bars.map(([name, value]) => ({
          value: Math.round(value),
          itemStyle: { color: name.startsWith("Isthmus") ? "#2f6f5e" : "#b8b8b8" },
        })),
        label: { show: true, position: "right" },
      },
    ],
  });
  return chart.renderToSVGString();
}
