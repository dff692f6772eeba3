import type { MappedRecord, RecordId } from "../target/mappings.ts";
import { Redis } from "@upstash/redis";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import { SET_MANY_SCRIPT } from "./cache-script.ts";
import { reasonOf } from "../net-reason.ts";

/** A cache of mappings. It may forget, fail or lie: a lie is recognised and read as nothing. */
export interface MappingCache {
  /** @returns UUIDs by `entity:legacyId`; what is not in it is not known. */
  read(keyOf: CacheKeyOf, ids: readonly RecordId[]): Promise<ReadonlyMap<string, string>>;
  write(keyOf: CacheKeyOf, entries: readonly MappedRecord[]): Promise<void>;
  /** The ordinal of the latest execution that was begun: what a target that is put back to an older state has forgotten. */
  recallExecution(): Promise<number | null>;
  rememberExecution(ordinal: number): Promise<void>;
}

export type CacheKeyOf = (id: RecordId) => string;

/** How long a page waits for the cache before it goes on without it. */
const TIMEOUT_MS = 1_000;
/** Keys per command: keeps a request far below the 10 MB a request may have. */
const KEYS_PER_COMMAND = 10_000;

/**
 * Mappings in Upstash Redis: one variadic read, one variadic write. Full, slow, rate limited, wrong or absent, it
 * never fails a page: what cannot be read is looked up in the table.
 */
export function createMappingCache(config: Config, log: Log): MappingCache {
  const { UPSTASH_REDIS_REST_URL: url, UPSTASH_REDIS_REST_TOKEN: token } = config;
  if (url === undefined || token === undefined) return NO_CACHE;
  const client = new Redis({
    url,
    token,
    automaticDeserialization: false,
    // Ids need no base64.
    responseEncoding: false,
    retry: false,
    enableTelemetry: false,
    // A function: one signal per call. (With a signal the client makes an answer of the time-out, and stumbles over
    // that.)
    signal: () => AbortSignal.timeout(TIMEOUT_MS),
  });
  const latest = `isthmus:${config.SOURCE_NAME}:${config.SUPABASE_URL}:latest-execution`;

  return {
    async recallExecution() {
      try {
        const ordinal = unseal(latest, await client.get<string>(latest), /^\d{1,15}$/);
        return ordinal === undefined ? null : Number(ordinal);
      } catch (error) {
        log.info("cache.unavailable", { during: "read", reason: reasonOf(error) });
        return null;
      }
    },
    async rememberExecution(ordinal) {
      try {
        await client.set(latest, seal(latest, String(ordinal)));
      } catch (error) {
        log.info("cache.unavailable", { during: "write", reason: reasonOf(error) });
      }
    },
    async read(keyOf, ids) {
      const found = new Map<string, string>();
      try {
        for (const part of parts(ids)) {
          const values = await client.mget<(string | null)[]>(part.map(keyOf));
          part.forEach((id, index) => {
            const uuid = unseal(keyOf(id), values[index]);
            if (uuid !== undefined) found.set(`${id.entity}:${id.legacyId}`, uuid);
          });
        }
      } catch (error) {
        log.info("cache.unavailable", { during: "read", reason: reasonOf(error) });
      }
      return found;
    },
    async write(keyOf, entries) {
      try {
        for (const part of parts(entries)) {
          const keys = part.map(keyOf);
          const values = part.map((entry, index) => seal(keys[index] ?? "", entry.uuid));
          await client.eval(SET_MANY_SCRIPT, keys, [...values, String(config.ISTHMUS_CACHE_TTL_SECONDS)]);
        }
      } catch (error) {
        log.info("cache.unavailable", { during: "write", reason: reasonOf(error) });
      }
    },
  };
}

export const NO_CACHE: MappingCache = {
  read: () => Promise.resolve(new Map<string, string>()),
  write: () => Promise.resolve(),
  recallExecution: () => Promise.resolve(null),
  rememberExecution: () => Promise.resolve(),
};

/**
 * A value carries a checksum over its key, so that garbage, or another record's id under this key, reads as nothing
 * instead of becoming a wrong reference.
 */
export function seal(key: string, value: string): string {
  return `${value}.${checksum(`${key}=${value}`)}`;
}

export function unseal(key: string, sealed: unknown, pattern = /^[0-9a-f-]{36}$/): string | undefined {
  if (typeof sealed !== "string") return undefined;
  const [value = "", sum] = sealed.split(".");
  return pattern.test(value) && sum === checksum(`${key}=${value}`) ? value : undefined;
}

/** cyrb53 (public domain): 53 bits, fast; guards against accidents, not against an attacker. */
function checksum(text: string): string {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    a = Math.imul(a ^ code, 2654435761);
    b = Math.imul(b ^ code, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return (4294967296 * (2097151 & b) + (a >>> 0)).toString(36);
}

function parts<T>(items: readonly T[]): T[][] {
  const result: T[][] = [];
  for (let start = 0; start < items.length; start += KEYS_PER_COMMAND) result.push(items.slice(start, start + KEYS_PER_COMMAND));
  return result;
}
