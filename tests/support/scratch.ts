import { existsSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { freemem } from "node:os";
import { join, resolve } from "node:path";
import { commandLine } from "../../local/processes.ts";

export const LOCAL = resolve(import.meta.dirname, "../../.local");
// Another account may run tests on the same machine.
const IN_MEMORY = `/dev/shm/isthmus-tests-${process.getuid?.() ?? "any"}`;
const GIGABYTE = 2 ** 30;
/** What a run of all tests needs at most, several times over. */
const ROOM = 8 * GIGABYTE;

/**
 * Where servers of tests keep their files: in memory where there is room, because a database is cloned there in a
 * sixth of the time; else in `.local`. ISTHMUS_TEST_DIR says otherwise (volumes).
 */
const SCRATCH =
  process.env["ISTHMUS_TEST_DIR"] === undefined ? (hasRoom() ? IN_MEMORY : LOCAL) : resolve(process.env["ISTHMUS_TEST_DIR"]);

/** A folder of this process, swept by the next run should this one be killed. */
export const scratchFolder = (name: string) => join(SCRATCH, `tests-${process.pid}-${name}`);

/** What earlier runs kept for a look, or left behind because they were killed. */
export function sweepScratch(): void {
  for (const folder of new Set([LOCAL, IN_MEMORY, SCRATCH])) {
    for (const name of existsSync(folder) ? readdirSync(folder) : []) {
      const pid = /^\.?tests-(\d+)(-|$)/.exec(name)?.[1];
      if (pid !== undefined && commandLine(Number(pid)) === undefined)
        rmSync(join(folder, name), { recursive: true, force: true });
    }
  }
}

function hasRoom(): boolean {
  try {
    const { bavail, bsize } = statfsSync("/dev/shm");
    return bavail * bsize >= ROOM && freemem() >= ROOM;
  } catch {
    return false;
  }
}
