import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { projectOfHost } from "../db/address.ts";

/** What schedules were called before an installation had a name in the queue. */
export const OLD_SCHEDULE_ID = "isthmus-sync-tick";

/**
 * What tells this installation from others that use the same QStash account: the reference of its Supabase project, or
 * for functions at another address that address, readable and with a few letters of its hash.
 */
export function installationId(functionsUrl: string): string {
  const { hostname, host, pathname, protocol } = new URL(functionsUrl);
  const project = projectOfHost(hostname);
  if (project !== undefined && pathname === "/functions/v1") return project;
  const readable = `${host}${pathname}`.replaceAll(/[^\w]+/g, "-").replaceAll(/^-|-$/g, "");
  return `${readable.slice(0, 40)}-${bytesToHex(sha256(utf8ToBytes(`${protocol}//${host}${pathname}`))).slice(0, 6)}`;
}

/** The limit on pages that run at the same time is counted under this key. */
export function flowControlKey(functionsUrl: string): string {
  return `isthmus-pages-${installationId(functionsUrl)}`;
}

/** The schedule that calls sync-tick: creating it again overwrites it. */
export function scheduleId(functionsUrl: string): string {
  return `isthmus-sync-tick-${installationId(functionsUrl)}`;
}
