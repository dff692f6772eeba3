import postgres from "postgres";
import type { TlsMode } from "../config.ts";
import { databaseAddress } from "./address.ts";
import { lastWords } from "./last-words.ts";
import { pinned, type Client, type Sql } from "./pinned.ts";
import type { Side } from "./settings.ts";
import { driverTls, expectedServer, type ExpectedServer } from "./tls.ts";

export type { Queryable, Sql, Transaction } from "./pinned.ts";

/** Begins to open a connection, encrypted where `tls` is given; what is written before it is open waits. */
export type SocketFactory = (target: SocketTarget) => Parameters<typeof lastWords>[0];

export interface SocketTarget {
  readonly host: string;
  readonly port: number;
  /** Whom TLS must find there: always verified. Without: in clear. */
  readonly tls: ExpectedServer | undefined;
}

export interface ConnectOptions {
  readonly side: Side;
  readonly url: string;
  readonly tls: TlsMode;
  readonly ca?: string | undefined;
  readonly poolSize: number;
  readonly idleTimeoutSeconds: number;
  /** How long to wait for a connection: until it is open, and until a pooler gives it a server. */
  readonly connectTimeoutSeconds: number;
  readonly applicationName: string;
  readonly socket?: SocketFactory | undefined;
}

/**
 * Opens a small pool that works through a transaction pooler: no prepared statements, no type look-up, settings
 * pinned by each transaction. Every value travels as text; arrays are bound as literals (see integerArray).
 */
export function connect(options: ConnectOptions): Sql {
  return pinned((onclose) => openClient(options, onclose), options);
}

/** One client of the driver with one connection, which opens with its first statement. What it says last is heard on a socket of ours alone. */
export function openClient(options: ConnectOptions, onclose: () => void): Client<postgres.Sql> {
  const { hostname, port } = databaseAddress(options.url);
  const { socket } = options;
  const tls = expectedServer(hostname, options.tls, options.ca);
  let said: Client<postgres.Sql>["said"] = () => undefined;
  const open = (make: SocketFactory) => {
    const made = make({ host: hostname, port, tls });
    said = lastWords(made);
    return made;
  };
  const sql = postgres(withoutParameters(options.url), {
    max: 1,
    idle_timeout: options.idleTimeoutSeconds,
    connect_timeout: options.connectTimeoutSeconds,
    // Seconds. By itself the driver lets a request wait ever longer, up to 20, after every refused connection; who
    // called us tries again anyway.
    backoff: () => 0.01,
    prepare: false,
    fetch_types: false,
    onnotice: () => undefined,
    connection: { application_name: options.applicationName },
    ...(socket ? { ssl: false, socket: () => open(socket) } : { ssl: driverTls(tls, options.tls) }),
    onclose,
  } as postgres.Options<Record<string, postgres.PostgresType>>);
  return { sql, said: () => said() };
}

/** Host, port and database of an address: where it leads, without who asks and how. */
function addressOf(url: string): string {
  const { hostname, port, pathname } = databaseAddress(url);
  return `${hostname}:${port}${pathname}`;
}

/** Where an installation looks for either database. */
export function addressesOf(config: { readonly SOURCE_DB_URL: string; readonly TARGET_DB_URL: string }) {
  return { source_address: addressOf(config.SOURCE_DB_URL), target_address: addressOf(config.TARGET_DB_URL) };
}

/**
 * An address as other tools copy it carries parameters of theirs (pgbouncer, connection_limit, sslmode, sslrootcert).
 * The driver would send each to the server as a setting: an unknown one is refused, and a known one would replace a
 * setting of ours. `options` stays, because Supavisor can take the project's reference from it.
 */
export function withoutParameters(url: string): string {
  const [address = "", parameters = ""] = url.split(/\?(.*)/s);
  const options = new URLSearchParams(parameters).get("options");
  return options === null ? address : `${address}?${new URLSearchParams({ options }).toString()}`;
}
