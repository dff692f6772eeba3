import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { commandLine } from "../processes.ts";

/** Says that a demo made the folder, and which process. */
const MARKER = "isthmus-demo.pid";

/**
 * Empties the folder of an earlier demo, or makes it.
 * @throws Error when the folder holds files that no demo made, or a demo still runs in it; nothing is deleted then.
 */
export async function freshFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const entries = await readdir(folder);
  if (entries.length > 0) {
    if (!entries.includes(MARKER)) {
      throw new Error(`${folder} holds files that no demo made, and a demo empties its folder. Give it another one with --data.`);
    }
    const pid = Number(await readFile(join(folder, MARKER), "utf8"));
    if (pid !== process.pid && commandLine(pid)?.includes("demo")) {
      throw new Error(`A demo (process ${pid}) runs in ${folder}. Stop it, or give this one another folder with --data.`);
    }
  }
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, MARKER), String(process.pid));
}
