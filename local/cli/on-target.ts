import { z } from "zod";
import { connect, type Sql } from "../../shared/db/connect.ts";
import { Problem } from "./problem.ts";
import { required, type Environment } from "./settings.ts";

const tls = z.enum(["verify-full", "require", "disable"]).default("require");

/** Runs work over one connection to the target, as TARGET_DB_URL says. */
export async function onTarget<T>(env: Environment, work: (target: Sql) => Promise<T>): Promise<T> {
  const url = required(env, "TARGET_DB_URL", "It is the target's address as isthmus_worker (Connect, Transaction pooler).");
  const mode = tls.safeParse(env["TARGET_DB_TLS"] === "" ? undefined : env["TARGET_DB_TLS"]);
  if (!URL.canParse(url) || !mode.success) {
    throw new Problem(
      "CONFIG_INVALID",
      "TARGET_DB_URL or TARGET_DB_TLS is malformed.",
      "docs/deployment.md lists what each may be.",
      {
        exitCode: 2,
      },
    );
  }
  const target = connect({
    side: "target",
    url,
    tls: mode.data,
    ca: env["TARGET_DB_CA"] === "" ? undefined : env["TARGET_DB_CA"],
    poolSize: 1,
    idleTimeoutSeconds: 5,
    connectTimeoutSeconds: 15,
    applicationName: "isthmus-cli",
  });
  try {
    return await work(target);
  } finally {
    await target.end({ timeout: 5 });
  }
}
