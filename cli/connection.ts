import { z } from "zod";
import { TLS_MODES } from "../shared/config.ts";
import type { ConnectOptions } from "../shared/db/connect.ts";
import type { Side } from "../shared/db/settings.ts";
import { Problem } from "./problem.ts";
import { required, type Environment } from "./settings.ts";

const tls = z.enum(TLS_MODES).default("verify-full");

/**
 * How a command connects to a database: one connection, under the TLS that the functions have (SOURCE_DB_TLS,
 * TARGET_DB_CA ...).
 * @throws Problem with exit code 2 when `variable`, or how to encrypt, is missing or malformed.
 */
export function connectionTo(env: Environment, side: Side, variable: string, whereFound: string): ConnectOptions {
  const url = required(env, variable, whereFound);
  const prefix = `${side.toUpperCase()}_DB`;
  const given = (name: string) => (env[name] === "" ? undefined : env[name]);
  const mode = tls.safeParse(given(`${prefix}_TLS`));
  if (!URL.canParse(url) || !/^postgres(ql)?:/.test(url) || !mode.success) {
    throw new Problem(
      "CONFIG_INVALID",
      `${variable} or ${prefix}_TLS is malformed.`,
      "docs/deployment.md lists what each may be.",
      {
        exitCode: 2,
      },
    );
  }
  return {
    side,
    url,
    tls: mode.data,
    ca: given(`${prefix}_CA`),
    poolSize: 1,
    idleTimeoutSeconds: 5,
    connectTimeoutSeconds: 15,
    applicationName: "isthmus-cli",
  };
}
