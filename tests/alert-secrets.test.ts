import { expect, it } from "vitest";
import { ALERT_SECRETS, alertSecrets, VAULT_SECRETS } from "../local/cli/setup/alert-secrets.ts";

const refusal = (env: Readonly<Record<string, string>>) => {
  try {
    return alertSecrets(env);
  } catch (error) {
    return (error as Error).message;
  }
};

it("what the file says of where people are told goes into Vault, each under its name, and what it does not say does not", () => {
  expect(alertSecrets({ ESCALATION_WEBHOOK_URL: "", OTHER: "x" })).toEqual({});
  const env = {
    ESCALATION_WEBHOOK_URL: "https://hooks.example.org/services/T0/B0/x@y",
    ESCALATION_WEBHOOK_URL_2: "http://localhost:8080/hook?a=1",
    ESCALATION_WEBHOOK_KEY: "0123456789abcdef",
    HEARTBEAT_URL: "https://beats.example.org?x=1",
  };
  expect(alertSecrets(env)).toEqual({
    isthmus_webhook_url: env.ESCALATION_WEBHOOK_URL,
    isthmus_webhook_url_2: env.ESCALATION_WEBHOOK_URL_2,
    isthmus_webhook_key: env.ESCALATION_WEBHOOK_KEY,
    isthmus_heartbeat_url: env.HEARTBEAT_URL,
  });
  for (const name of Object.values(ALERT_SECRETS)) expect(VAULT_SECRETS).toContain(name);
});

it.each([
  ["ESCALATION_WEBHOOK_URL", "http://hooks.example.org/s3cret", "address"],
  ["ESCALATION_WEBHOOK_URL", "https://a:s3cret@hooks.example.org/", "address"],
  ["ESCALATION_WEBHOOK_URL_2", "s3cret", "address"],
  ["HEARTBEAT_URL", "https://beats.example.org/s3cret\n", "address"],
  ["HEARTBEAT_URL", "ftp://beats.example.org/s3cret", "address"],
  ["ESCALATION_WEBHOOK_KEY", "s3cret", "key"],
  ["ESCALATION_WEBHOOK_KEY", "s3cret and some more words", "key"],
])("%s that is none is refused by its name, without what it holds", (name, value, what) => {
  expect(refusal({ [name]: value })).toBe(`${name} is no ${what}.`);
});
