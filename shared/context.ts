import { createMappingCache, type MappingCache } from "./cache/mapping-cache.ts";
import { systemClock, type Clock } from "./clock.ts";
import { loadConfig, refuseUnverified, type Config } from "./config.ts";
import { connect, type Sql } from "./db/connect.ts";
import type { Entity } from "./entity/define-entity.ts";
import type { Denied } from "./entity/denied.ts";
import type { CompiledColumns, Installation } from "./entity/installation.ts";
import { definitionHash, validateRegistry } from "./entity/validate-registry.ts";
import { IsthmusError } from "./errors.ts";
import type { Log } from "./log.ts";
import { createPageQueue, type PageQueue } from "./queue/page-queue.ts";
import type { Meter, Runtime } from "./runtime.ts";

/** What every stage may use. Built once per worker. */
export interface Context {
  readonly config: Config;
  readonly source: Sql;
  readonly target: Sql;
  readonly cache: MappingCache;
  readonly queue: PageQueue;
  readonly entities: ReadonlyMap<string, Entity>;
  readonly hashes: ReadonlyMap<string, string>;
  readonly columns: CompiledColumns;
  readonly denied: Denied;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

/**
 * Builds what the stages use, once per worker.
 * @throws IsthmusError CONFIG_INVALID or CONTRACT_BROKEN on the first request, naming what is wrong.
 */
export function createContext(runtime: Runtime, installation: Installation): Context {
  const config = loadConfig(runtime.env);
  if (runtime.socket) refuseUnverified(config);
  const { entities, codeHashes, columns, denied } = installation;
  const problems = validateRegistry(entities, denied);
  if (problems.length > 0) throw new IsthmusError("CONTRACT_BROKEN", `Entities: ${problems.join(" ")}`);
  return {
    config,
    source: connect({
      side: "source",
      ...pool(config, runtime),
      url: config.SOURCE_DB_URL,
      tls: config.SOURCE_DB_TLS,
      ca: config.SOURCE_DB_CA,
    }),
    target: connect({
      side: "target",
      ...pool(config, runtime),
      url: config.TARGET_DB_URL,
      tls: config.TARGET_DB_TLS,
      ca: config.TARGET_DB_CA,
    }),
    cache: createMappingCache(config, runtime.log),
    queue: createPageQueue(config),
    entities: new Map(entities.map((entity) => [entity.name, entity])),
    hashes: new Map(entities.map((entity) => [entity.name, definitionHash(entity, codeHashes)])),
    columns,
    denied,
    clock: systemClock,
    log: runtime.log,
    meter: runtime.meter,
  };
}

/** The same context for every request of a worker. */
export function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

function pool(config: Config, runtime: Runtime) {
  return {
    poolSize: config.ISTHMUS_POOL_SIZE,
    idleTimeoutSeconds: config.ISTHMUS_IDLE_TIMEOUT_SECONDS,
    connectTimeoutSeconds: config.ISTHMUS_ACQUIRE_TIMEOUT_SECONDS,
    applicationName: "isthmus",
    socket: runtime.socket,
  };
}
