import postgres from "postgres";
import { pinned } from "./pinned.ts";
import type { Side } from "./settings.ts";

/** What a pool offers; every statement has pinned settings (pinned.ts). */
export type Sql = Pick<postgres.Sql, "unsafe" | "begin" | "end">;
export type Transaction = postgres.TransactionSql;
export type Queryable = Sql | Transaction;

/** Begins to open a stream to host and port; what is written before it is open waits. */
export type SocketFactory = (host: string, port: number) => unknown;

export interface ConnectOptions {
  readonly side: Side;
  readonly url: string;
  readonly tls: "verify-full" | "require" | "disable";
  readonly ca?: string | undefined;
  readonly poolSize: number;
  readonly idleTimeoutSeconds: number;
  readonly connectTimeoutSeconds: number;
  readonly applicationName: string;
  readonly socket?: SocketFactory | undefined;
}

/**
 * Opens a small pool that works through a transaction pooler: no prepared statements, no type look-up, settings pinned by each transaction.
 * Every value travels as text; arrays are bound as literals (see integerArray).
 */
export function connect(options: ConnectOptions): Sql {
  return pinned((onclose) => openClient(options, onclose), options.poolSize, options.side);
}

/** One client of the driver with one connection, which opens with its first statement. */
export function openClient(options: ConnectOptions, onclose: () => void): postgres.Sql {
  const { hostname, port } = new URL(options.url.replace(/^postgres(ql)?:/, "http:"));
  const { socket } = options;
  return postgres(withoutParameters(options.url), {
    max: 1,
    idle_timeout: options.idleTimeoutSeconds,
    connect_timeout: options.connectTimeoutSeconds,
    // Seconds. By itself the driver lets a request wait ever longer, up to 20, after every refused connection; who called us tries again anyway.
    backoff: () => 0.01,
    prepare: false,
    fetch_types: false,
    onnotice: () => undefined,
    connection: { application_name: options.applicationName },
    ssl: tlsOptions(options, hostname),
    ...(socket ? { socket: () => socket(hostname, Number(port || 5432)) } : {}),
    onclose,
  } as postgres.Options<Record<string, postgres.PostgresType>>);
}

/** Host, port and database of an address: where it leads, without who asks and how. */
function addressOf(url: string): string {
  const { hostname, port, pathname } = new URL(url.replace(/^postgres(ql)?:/, "http:"));
  return `${hostname}:${port || "5432"}${pathname}`;
}

/** Where an installation looks for either database. */
export function addressesOf(config: { readonly SOURCE_DB_URL: string; readonly TARGET_DB_URL: string }) {
  return { source_address: addressOf(config.SOURCE_DB_URL), target_address: addressOf(config.TARGET_DB_URL) };
}

/**
 * An address as other tools copy it carries parameters of theirs (pgbouncer, connection_limit, sslmode, sslrootcert). The driver would send
 * each to the server as a setting: an unknown one is refused, and a known one would replace a setting of ours. `options` stays, because
 * Supavisor can take the project's reference from it.
 */
export function withoutParameters(url: string): string {
  const [address = "", parameters = ""] = url.split(/\?(.*)/s);
  const options = new URLSearchParams(parameters).get("options");
  return options === null ? address : `${address}?${new URLSearchParams({ options }).toString()}`;
}

function tlsOptions(options: ConnectOptions, hostname: string): false | object {
  const loopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
  if (options.tls === "disable" || (loopback && options.ca === undefined)) return false;
  return {
    rejectUnauthorized: options.tls === "verify-full",
    // What the certificate must name. An address is not sent as a server name (RFC 6066), but is checked all the same.
    host: hostname,
    ...(isAddress(hostname) ? {} : { servername: hostname }),
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  };
}

function isAddress(hostname: string): boolean {
  return /^(\d{1,3}(\.\d{1,3}){3}|\[.*\])$/.test(hostname);
}
