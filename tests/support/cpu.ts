import { readFileSync } from "node:fs";
import type { TestDatabase } from "./databases.ts";

/** Clock ticks per second of /proc. */
const TICKS = 100;

/** CPU that the worker's server processes have used, in milliseconds: what other work on the machine does not change. */
export async function workerCpuMs({ admin }: TestDatabase): Promise<number> {
  const rows = await admin<{ pid: number }[]>`
    select pid from pg_stat_activity where usename = 'isthmus_worker' and datname = current_database()`;
  return rows.reduce((sum, { pid }) => sum + processCpuMs(pid), 0);
}

/** CPU that a process has used, in milliseconds. */
export function processCpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1_000) / TICKS;
}

export const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
