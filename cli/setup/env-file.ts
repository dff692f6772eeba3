import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { Problem } from "../problem.ts";

/** What a person fills in. Every other variable has a default, or is added by setup. */
const TEMPLATE = `# What setup needs to know of this installation. Keep this file outside the repository; it holds secrets.

# The project, and a personal access token with rights to it (dashboard: Account, Access Tokens).
SUPABASE_URL=
SUPABASE_ACCESS_TOKEN=

# The project's database as postgres (dashboard: Connect, Session pooler). Only this command uses it.
TARGET_OWNER_URL=

# The legacy database as a role that reads (npm run sync -- setup-source prints the SQL that makes one), and the PEM text of the
# authority that signed its certificate, in quotes, when that is not a public one.
SOURCE_DB_URL=
SOURCE_DB_CA=

# QStash (console: QStash, Environment variables).
QSTASH_TOKEN=
QSTASH_CURRENT_SIGNING_KEY=
QSTASH_NEXT_SIGNING_KEY=

# Optional: Upstash Redis (console: Redis, REST API). Without it pages are slower.
UPSTASH_REDIS_REST_URL=
UPSTASH_REDIS_REST_TOKEN=

# Optional: where people are told of alerts (a Slack webhook, or any https address), where they are told when nobody has acknowledged a
# critical one, what messages are signed with (16 characters at least), and an address of a monitor that is called while ticks work.
ESCALATION_WEBHOOK_URL=
ESCALATION_WEBHOOK_URL_2=
ESCALATION_WEBHOOK_KEY=
HEARTBEAT_URL=
`;

/** Writes the file that a person fills in, readable by its owner alone, unless there is one. @returns whether it was written. */
export function writeTemplate(path: string): boolean {
  if (existsSync(path)) return false;
  writeFileSync(path, TEMPLATE, { mode: 0o600, flag: "wx" });
  return true;
}

/** Sets variables in a file of them: a line that names one is replaced, others are added at the end, every other line stays as it is. */
export function putVariables(path: string, values: Readonly<Record<string, string>>): void {
  let text = readFileSync(path, "utf8");
  for (const [name, value] of Object.entries(values)) {
    if (/["\n]/.test(value)) throw new Problem("CONFIG_INVALID", `${name} cannot be written to ${path}.`, "Write it by hand.");
    const assigned = new RegExp(`^[ \\t]*(?:export[ \\t]+)?${name}[ \\t]*=.*$`, "m");
    const line = `${name}="${value}"`;
    text = assigned.test(text) ? text.replace(assigned, () => line) : `${text}${text.endsWith("\n") ? "" : "\n"}${line}\n`;
  }
  replaceFile(realpathSync(path), text);
}

/** Where the next text of a file of variables stands until it takes the place of the file. */
const draftOf = (path: string) => `${realpathSync(path)}.setup-draft`;

/** Takes away what a run left that was killed while it wrote the file: a draft of it, with secrets. @returns its name, if there was one. */
export function removeDraft(path: string): string | undefined {
  const draft = draftOf(path);
  if (!existsSync(draft)) return undefined;
  rmSync(draft);
  return draft;
}

/** Whoever pulls the plug meanwhile leaves the one text or the other, and at most a draft, readable by its owner alone. */
function replaceFile(path: string, text: string): void {
  const draft = draftOf(path);
  // Under a name that is always the same, and never into what somebody else has put there.
  rmSync(draft, { force: true });
  const file = openSync(draft, "wx", 0o600);
  try {
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
}
