import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

export interface Usage {
  /** CPU of the thread that runs the isolate, as the platform counts: helpers of V8 and of the runtime are left out. */
  readonly cpuMs: number;
  /** Memory of the whole process. */
  readonly rssBytes: number;
}

const NANOSECONDS_PER_MS = 1_000_000;
const run = promisify(execFile);

/** What an isolate's process has used so far; undefined when it is gone. */
export async function usageOf(pid: number): Promise<Usage | undefined> {
  try {
    return process.platform === "linux" ? await fromProc(pid) : await fromPs(pid);
  } catch {
    return undefined;
  }
}

async function fromProc(pid: number): Promise<Usage> {
  const [thread, status] = await Promise.all([
    readFile(`/proc/${pid}/task/${pid}/schedstat`, "utf8"),
    readFile(`/proc/${pid}/status`, "utf8"),
  ]);
  return {
    cpuMs: Number(thread.split(" ")[0]) / NANOSECONDS_PER_MS,
    rssBytes: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1_024,
  };
}

async function fromPs(pid: number): Promise<Usage> {
  const { stdout } = await run("ps", ["-o", "rss=,time=", "-p", String(pid)]);
  const [rss = "0", time = "0"] = stdout.trim().split(/\s+/);
  const seconds = time.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  return { cpuMs: seconds * 1_000, rssBytes: Number(rss) * 1_024 };
}
