import { readdirSync, readFileSync } from "node:fs";
import type { Sql } from "postgres";

/** Clock ticks per second of /proc. */
const TICKS = 100;

interface Stat {
  readonly parent: number;
  /** Of the process itself, and of its children that have ended. */
  readonly ticks: number;
}

function statOf(pid: number): Stat | undefined {
  try {
    // Behind the name, which may hold anything: state, parent, …, utime, stime, cutime, cstime.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
    return { parent: Number(fields[1]), ticks: fields.slice(11, 15).reduce((sum, one) => sum + Number(one), 0) };
  } catch {
    return undefined; // It has ended meanwhile.
  }
}

/** CPU that all processes of a PostgreSQL server have used since its start, in milliseconds, as the operating system counts it. Linux alone. */
export async function serverCpuMs(anySession: Sql): Promise<number> {
  const [own] = await anySession<{ pid: number }[]>`select pg_backend_pid() as pid`;
  const postmaster = statOf(own?.pid ?? 0)?.parent ?? 0;
  const live = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => statOf(Number(name)))
    .filter((stat) => stat?.parent === postmaster);
  const ticks = [statOf(postmaster), ...live].reduce((sum, stat) => sum + (stat?.ticks ?? 0), 0);
  return (ticks * 1_000) / TICKS;
}

export const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
