import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

interface Process {
  readonly pid: number;
  readonly parent: number;
  /** Ended, but not yet collected by its parent. */
  readonly zombie: boolean;
}

/** The process and all below it that still run. */
export function processTree(root: number): number[] {
  const all = processes().filter(({ zombie }) => !zombie);
  const tree = all.some(({ pid }) => pid === root) ? [root] : [];
  for (const parent of tree) tree.push(...all.filter((one) => one.parent === parent).map(({ pid }) => pid));
  return tree;
}

/** How a running process was called; undefined when there is none. */
export function commandLine(pid: number): string | undefined {
  if (existsSync("/proc/self/cmdline")) {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    } catch {
      return undefined;
    }
  }
  return spawnSync("/bin/ps", ["-ww", "-o", "command=", "-p", String(pid)], { encoding: "utf8" }).stdout.trim() || undefined;
}

/** Kills a process and all below it, and waits until the last one has ended. */
export async function killTree(root: number): Promise<void> {
  // Stopped first: it must not start another child while we look for them.
  signal(root, "SIGSTOP");
  const tree = processTree(root);
  for (const pid of tree) signal(pid, "SIGKILL");
  for (;;) {
    const left = new Set(
      processes()
        .filter(({ zombie }) => !zombie)
        .map(({ pid }) => pid),
    );
    if (!tree.some((pid) => left.has(pid))) return;
    await new Promise((again) => setTimeout(again, 5));
  }
}

/** Linux tells without `ps`, which small images do not have. */
function processes(): Process[] {
  if (existsSync("/proc/self/stat")) {
    return readdirSync("/proc").flatMap((entry) => {
      if (!/^\d+$/.test(entry)) return [];
      try {
        // pid (name, which may hold anything) state parent ...
        const [state, parent] = readFileSync(`/proc/${entry}/stat`, "utf8")
          .replace(/^.*\) /s, "")
          .split(" ");
        return [{ pid: Number(entry), parent: Number(parent), zombie: state === "Z" || state === "X" }];
      } catch {
        return []; // ended while we looked
      }
    });
  }
  const { stdout } = spawnSync("/bin/ps", ["-A", "-o", "pid=,ppid=,state="], { encoding: "utf8" });
  return [...stdout.matchAll(/^\s*(\d+)\s+(\d+)\s+(\S+)/gm)].map(([, pid, parent, state]) => ({
    pid: Number(pid),
    parent: Number(parent),
    zombie: state?.startsWith("Z") === true,
  }));
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
