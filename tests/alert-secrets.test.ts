import { expect, it } from "vitest";
import { showTested } from "../cli/alerts.ts";
import { redirectedAddresses } from "../cli/redirects.ts";
import { ALERT_SECRETS, alertSecrets, VAULT_SECRETS } from "../cli/setup/alert-secrets.ts";
import type { Setup } from "../cli/setup/context.ts";
import { fillVault } from "../cli/setup/schedule-ticks.ts";

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

const HOOK = "https://hooks.example.org/s3cret";

it("an address that redirects is told by its variable and status, and what cannot be reached tells nothing", async () => {
  const asked: [string, RequestInit | undefined][] = [];
  const ask = ((address: string, how?: RequestInit) => {
    asked.push([address, how]);
    return address.includes("gone") ? Promise.reject(new Error("no")) : Promise.resolve(new Response(null, { status: 302 }));
  }) as typeof fetch;
  const redirected = await redirectedAddresses(
    { ESCALATION_WEBHOOK_URL: HOOK, ESCALATION_WEBHOOK_URL_2: "https://gone.example" },
    ask,
  );
  expect(redirected).toEqual([{ variable: "ESCALATION_WEBHOOK_URL", status: 302 }]);
  expect(asked[0]).toMatchObject([HOOK, { method: "HEAD", redirect: "manual" }]);
  expect(await redirectedAddresses({}, ask)).toEqual([]);
  const said = showTested([{ address: "first", status: "delivered", statusCode: 200, error: null }], redirected);
  expect(said).toContain("answered the test message with status 200. Look whether the message is there");
  expect(said).toContain("ESCALATION_WEBHOOK_URL answers with status 302, a redirect");
  expect(said).not.toContain("s3cret");
});

it.each([
  ["without Vault", { vault: false, installed: true, complete: false }, { ESCALATION_WEBHOOK_URL: HOOK }, "person"],
  ["without pg_net or pg_cron", { vault: true, installed: true, complete: false }, { ESCALATION_WEBHOOK_URL: HOOK }, "person"],
  ["without them, where nobody is to be told", { vault: true, installed: true, complete: false }, {}, "done"],
  [
    "before the migrations that enable them",
    { vault: true, installed: false, complete: false },
    { ESCALATION_WEBHOOK_URL: HOOK },
    "done",
  ],
])("setup says in a project %s whether people are told", async (_, has, told, state) => {
  const env = { ...told, ISTHMUS_API_KEY: "sb_secret_x", SUPABASE_URL: "https://aaaaaaaaaaaaaaaaaaaa.supabase.co" };
  const stored = {
    isthmus_functions_url: `${env.SUPABASE_URL}/functions/v1`,
    isthmus_secret_key: env.ISTHMUS_API_KEY,
    ...alertSecrets(env),
  };
  const owner = (text: unknown) => {
    if (!String(text).includes("select")) return "";
    return Promise.resolve(
      String(text).includes("decrypted_secret as value")
        ? Object.entries(stored).map(([name, value]) => ({ name, value }))
        : [has],
    );
  };
  const found = await fillVault.look({ env: () => env, owner } as unknown as Setup);
  expect(found.state).toBe(state);
  if (found.state === "person")
    expect(found.actions.join()).toMatch(/^Enable pg_cron, pg_net and Vault .* ESCALATION_WEBHOOK_URL empty/);
  expect(JSON.stringify(found)).not.toContain("s3cret");
});
