import { connect } from "../../shared/db/connect.ts";
import { ident } from "../../shared/db/ident.ts";
import { sourceRoleSql } from "../../shared/operate/source-setup.ts";
import type { Pipeline } from "./pipeline.ts";
import { runScript } from "./run-script.ts";

/** From here on the pipeline reads the source as a role that `setup-source` makes for its entities: what they name, and nothing else. */
export async function readAsMadeRole(test: Pipeline): Promise<AsyncDisposable> {
  const role = `reader ${test.source.name.slice(-12)}`;
  await runScript(test.source.superuserUrl, sourceRoleSql([...test.context.entities.values()], role));
  const source = connect({
    side: "source",
    url: test.source.url(encodeURIComponent(role), "local-reader"),
    tls: "disable",
    poolSize: 2,
    idleTimeoutSeconds: 5,
    connectTimeoutSeconds: 5,
    applicationName: "test",
  });
  Object.assign(test.context, { source });
  return {
    [Symbol.asyncDispose]: async () => {
      await source.end({ timeout: 1 });
      await test.source.admin.unsafe(`drop owned by ${ident(role)}; drop role ${ident(role)}`).simple();
    },
  };
}
