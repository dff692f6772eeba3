import { Problem } from "../problem.ts";
import type { Environment } from "../settings.ts";

/** By which variable of the file each secret of Vault is named that the delivery of alerts reads. All are optional. */
export const ALERT_SECRETS = {
  ESCALATION_WEBHOOK_URL: "isthmus_webhook_url",
  ESCALATION_WEBHOOK_URL_2: "isthmus_webhook_url_2",
  ESCALATION_WEBHOOK_KEY: "isthmus_webhook_key",
  HEARTBEAT_URL: "isthmus_heartbeat_url",
} as const;

/** All secrets of Vault that are ours, each by its name: the application may have secrets whose names begin like these. */
export const VAULT_SECRETS: readonly string[] = ["isthmus_functions_url", "isthmus_secret_key", ...Object.values(ALERT_SECRETS)];

/** As sync.address_of in the database, which refuses the same. */
const ADDRESS =
  /^(https:\/\/[^\s/?#@\\]+|http:\/\/(localhost|127\.0\.0\.1|\[::1\]|host\.docker\.internal|[a-z0-9_-]+)(:\d{1,5})?)([/?][^\s#\\]*)?$/i;
const KEY = /^[!-~]{16,}$/;

/** What the file says of where people are told. What it does not name stays in Vault as it is. @throws Problem naming the variable that holds no address or key. */
export function alertSecrets(env: Environment): Readonly<Record<string, string>> {
  const given = Object.entries(ALERT_SECRETS).flatMap(([variable, name]) => {
    const value = env[variable];
    return value === undefined || value === "" ? [] : [{ variable, name, value }];
  });
  for (const { variable, value } of given) {
    const fits = variable.endsWith("_KEY") ? KEY.test(value) : ADDRESS.test(value) && /^[!-~]+$/.test(value);
    if (fits) continue;
    throw new Problem(
      "CONFIG_INVALID",
      `${variable} is no ${variable.endsWith("_KEY") ? "key" : "address"}.`,
      variable.endsWith("_KEY")
        ? "It has 16 characters at least, and no spaces."
        : "It begins with https://, and has no space, password or #.",
      { exitCode: 2 },
    );
  }
  return Object.fromEntries(given.map(({ name, value }) => [name, value]));
}
