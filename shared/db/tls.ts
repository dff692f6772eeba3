import type { TlsMode } from "../config.ts";
import { isHosted } from "./address.ts";
import { SUPABASE_ROOT_CA } from "./supabase-ca.ts";

/** Whom an encrypted connection expects. */
export interface ExpectedServer {
  /** A name or an address that the certificate must carry. */
  readonly serverName: string;
  /** PEM of an authority that is not a public one. */
  readonly ca: string | undefined;
}

/** Whom a connection to a host expects; undefined where it is in clear: when it is disabled, and on the loopback interface without an authority. */
export function expectedServer(hostname: string, mode: TlsMode, ca: string | undefined): ExpectedServer | undefined {
  const loopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
  if (mode === "disable" || (loopback && ca === undefined)) return undefined;
  return { serverName: hostname.replace(/^\[|\]$/g, ""), ca: ca ?? (isHosted(hostname) ? SUPABASE_ROOT_CA : undefined) };
}

/** The driver's option, where it encrypts by itself. An address is not sent as a server name (RFC 6066), but is checked all the same. */
export function driverTls(expected: ExpectedServer | undefined, mode: TlsMode): false | object {
  if (!expected) return false;
  const { serverName, ca } = expected;
  return {
    rejectUnauthorized: mode === "verify-full",
    host: serverName,
    ...(isAddress(serverName) ? {} : { servername: serverName }),
    ...(ca === undefined ? {} : { ca }),
  };
}

function isAddress(name: string): boolean {
  return /^\d{1,3}(\.\d{1,3}){3}$|:/.test(name);
}
