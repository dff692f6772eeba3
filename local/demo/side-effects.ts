import { acknowledgement } from "../../cli/answers.ts";
import type { Platform } from "../platform.ts";
import { line } from "./terminal.ts";

/** Accepts, over HTTP as an operator would, what writes to the application's tables set off: no first load begins before. */
export async function acknowledgeSideEffects(platform: Platform): Promise<void> {
  const answer = await platform.call("sync-trigger?acknowledge", { body: { by: "the demo" } });
  if (answer.status !== 200) throw new Error(`sync-trigger?acknowledge answered ${answer.status}: ${await answer.text()}`);
  const { acknowledged } = acknowledgement.parse(await answer.json());
  const names = [...new Set(acknowledged.map(({ kind, name }) => `${kind} ${name}`))];
  line(`  ✓ acknowledged what writes to the target set off: ${names.join(", ")} on ${acknowledged.length} tables`);
}
