import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import {
  BASE,
  createFunctions,
  deliveryClaims,
  secretToken,
  seconds,
  SECRET_KEY,
  SIGNING_KEYS,
  signingKeys,
  userToken,
  type Claims,
  type FunctionName,
} from "./support/handlers.ts";

// A caller who is let in meets the parser: this body is refused there, with 400.
const NO_JSON = "{";
const functions = createFunctions();
const answerTo = async (name: FunctionName, init: Parameters<typeof functions.call>[1]) => {
  const answer = await functions.call(name, init);
  return { status: answer.status, ...((await answer.json()) as { error?: { code: string; message: string } }).error };
};
const bearer = (token: string) =>
  answerTo("sync-trigger", { method: "POST", headers: { authorization: `Bearer ${token}` }, body: NO_JSON });
const LET_IN = { status: 400, code: "REQUEST_INVALID" };
const UNKNOWN = { status: 401, code: "UNAUTHENTICATED" };

describe("a signed-in user's token", () => {
  const now = seconds();

  it.each<[string, Claims]>([
    ["of an operator", {}],
    ["with several audiences, one of them ours", { aud: ["other", "authenticated"] }],
    ["that begins within the tolerance of clocks", { nbf: now + 4, iat: now + 4 }],
    ["that ended within the tolerance of clocks", { exp: now - 2 }],
    ["without nbf", { nbf: undefined }],
  ])("%s is accepted", async (_, claims) => {
    expect(await bearer(userToken(functions.keys, claims))).toMatchObject(LET_IN);
  });

  it.each<[string, Claims]>([
    ["of another issuer", { iss: "https://other.supabase.co/auth/v1" }],
    ["of an issuer that begins like ours", { iss: `${BASE}/auth/v1/` }],
    ["without issuer", { iss: undefined }],
    ["for another audience", { aud: "elsewhere" }],
    ["without audience", { aud: undefined }],
    ["that has ended", { exp: now - 60 }],
    ["without an end", { exp: undefined }],
    ["whose end is no number", { exp: "9999999999" }],
    ["that begins in an hour", { nbf: now + 3_600 }],
    ["that is issued in an hour", { iat: now + 3_600 }],
    ["without a time of issue", { iat: undefined }],
    ["of nobody", { sub: undefined }],
    ["of a service", { role: "service_role" }],
    ["of everybody", { role: "anon" }],
    ["without a role", { role: undefined }],
    ["of somebody who signed in anonymously", { is_anonymous: true }],
    ["that another application was given", { client_id: "6f1f7e1c-2f0b-4c0d-9d52-0a1b2c3d4e5f" }],
  ])("%s is refused", async (_, claims) => {
    expect(await bearer(userToken(functions.keys, claims))).toMatchObject(UNKNOWN);
  });

  it("under another key, algorithm or none is refused", async () => {
    const good = userToken(functions.keys);
    const [header = "", payload = "", signature = ""] = good.split(".");
    const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Claims;
    const { kid, publicPem } = functions.keys;
    const none = Buffer.from(JSON.stringify({ alg: "none", kid })).toString("base64url");
    const tokens = {
      "a key of its own under our key's name": userToken({ ...signingKeys("ES256"), kid }),
      "a key that nobody knows": userToken(signingKeys("ES256")),
      "an RSA key under our key's name": userToken({ ...signingKeys("RS256"), kid }),
      "our public key as a shared secret": secretToken(publicPem, claims, { kid }),
      "the secret key as a shared secret": secretToken(SECRET_KEY, claims, { kid }),
      "no signature": `${none}.${payload}.`,
      "no signature, but its algorithm": `${header}.${payload}.`,
      "another payload": `${header}.${Buffer.from(JSON.stringify({ ...claims, role: "x" })).toString("base64url")}.${signature}`,
      "a header that critical readers have to understand": userToken(functions.keys, {}, { crit: ["b64"], b64: false }),
      "nothing that is JSON": "a.b.c",
    };
    for (const [title, token] of Object.entries(tokens)) expect(await bearer(token), title).toMatchObject(UNKNOWN);
  });

  it("under a key that did not come with the deployment has the Auth server asked for its keys, however many strangers send tokens", async () => {
    const rotated = signingKeys("ES256");
    const asked: (string | undefined)[] = [];
    const auth = createServer((request, answer) => {
      asked.push(request.url);
      answer.setHeader("content-type", "application/json").end(JSON.stringify({ keys: [rotated.jwk] }));
    }).listen(0, "127.0.0.1");
    try {
      await once(auth, "listening");
      const url = `http://127.0.0.1:${(auth.address() as AddressInfo).port}`;
      const own = createFunctions({ SUPABASE_URL: url, ISTHMUS_TOKEN_ISSUER: `${url}/auth/v1` });
      const status = async (keys: typeof rotated) => {
        const headers = { authorization: `Bearer ${userToken(keys, { iss: `${url}/auth/v1` })}` };
        return (await own.call("sync-trigger", { method: "POST", headers, body: NO_JSON })).status;
      };
      for (let n = 0; n < 5; n++) expect(await status(signingKeys("ES256"))).toBe(401);
      expect(await status(rotated)).toBe(400);
      expect(asked).toEqual(["/auth/v1/.well-known/jwks.json"]);
    } finally {
      auth.close();
    }
  });

  it("is compared with the issuer that is configured, where the project has an address of its own", async () => {
    const own = createFunctions({ ISTHMUS_TOKEN_ISSUER: "https://auth.clinic.example/auth/v1" });
    const status = async (iss: string) => {
      const headers = { authorization: `Bearer ${userToken(own.keys, { iss })}` };
      return (await own.call("sync-trigger", { method: "POST", headers, body: NO_JSON })).status;
    };
    expect(await status("https://auth.clinic.example/auth/v1")).toBe(400);
    expect(await status(`${BASE}/auth/v1`)).toBe(401);
  });
});

describe("QStash's signature", () => {
  const now = seconds();
  const delivered = (claims: Claims, key = SIGNING_KEYS.current, header: { alg?: string } = {}, body = NO_JSON) =>
    answerTo("sync-page", { method: "POST", headers: { "upstash-signature": secretToken(key, claims, header) }, body });
  const good = (): Claims => deliveryClaims("sync-page", NO_JSON);

  it("is accepted under either key, within the tolerance of clocks", async () => {
    expect(await delivered(good())).toMatchObject(LET_IN);
    expect(await delivered(good(), SIGNING_KEYS.next)).toMatchObject(LET_IN);
    expect(await delivered({ ...good(), nbf: now + 4, iat: now + 4 })).toMatchObject(LET_IN);
  });

  it.each<[string, Claims]>([
    ["without an end", { exp: undefined }],
    ["that has ended", { exp: now - 60 }],
    ["without a beginning", { nbf: undefined }],
    ["that begins in an hour", { nbf: now + 3_600 }],
    ["that is issued in an hour", { iat: now + 3_600 }],
    ["of another issuer", { iss: "upstash" }],
    ["without issuer", { iss: undefined }],
    ["for another address", { sub: `${BASE}/functions/v1/sync-trigger` }],
    ["for an address with a query", { sub: `${BASE}/functions/v1/sync-page?a=1` }],
    ["without an address", { sub: undefined }],
    ["over another body", { body: String(deliveryClaims("sync-page", "{}")["body"]) }],
    ["over no body", { body: undefined }],
    ["whose hash is no text", { body: 7 }],
  ])("%s is refused", async (_, claims) => {
    expect(await delivered({ ...good(), ...claims })).toMatchObject(UNKNOWN);
  });

  it("under another key or algorithm, or over a body that came changed, is refused", async () => {
    expect(await delivered(good(), "sig_other")).toMatchObject(UNKNOWN);
    expect(await delivered(good(), SIGNING_KEYS.current, { alg: "HS512" })).toMatchObject(UNKNOWN);
    expect(await delivered(good(), SIGNING_KEYS.current, {}, `${NO_JSON} `)).toMatchObject(UNKNOWN);
  });

  it("over an empty body lets nobody send one beside a GET", async () => {
    const headers = (body: string) => ({
      "upstash-signature": secretToken(SIGNING_KEYS.current, deliveryClaims("sync-trigger", body)),
    });
    const query = "?execution=7";
    expect(await answerTo("sync-trigger", { headers: headers(""), query })).toMatchObject(LET_IN);
    expect(await answerTo("sync-trigger", { headers: headers("{}"), query })).toMatchObject(UNKNOWN);
  });
});

describe("a database that would be encrypted without being verified", () => {
  it.each(["SOURCE_DB_TLS", "TARGET_DB_TLS"])("is refused by the functions, which cannot do that: %s", async (variable) => {
    for (const name of ["sync-trigger", "sync-page", "sync-tick"] as const) {
      const answer = await createFunctions({ [variable]: "require" }).call(name, {
        method: "POST",
        headers: { apikey: SECRET_KEY },
      });
      const { error } = (await answer.json()) as { error: { code: string; message: string } };
      expect([answer.status, error.code]).toEqual([500, "CONFIG_INVALID"]);
      expect(error.message).toContain(`${variable} is require`);
      expect(error.message).toContain("verify-full");
    }
  });
});
