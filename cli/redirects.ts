import type { Environment } from "./settings.ts";

/** The variables that hold the addresses of people, and which address of a message each is. */
export const TOLD = { ESCALATION_WEBHOOK_URL: "first", ESCALATION_WEBHOOK_URL_2: "second" } as const;

/** An address of the file that answers with a redirect. */
export interface Redirected {
  readonly variable: keyof typeof TOLD;
  readonly status: number;
}

const PATIENCE_MS = 5_000;

/**
 * Which addresses of the file answer with a redirect, each asked once, without following. pg_net follows, and with a
 * GET nothing of a message arrives: its answer would count as a delivery. What cannot be reached from here tells
 * nothing.
 */
export async function redirectedAddresses(env: Environment, ask: typeof fetch = fetch): Promise<readonly Redirected[]> {
  const found = await Promise.all(
    (Object.keys(TOLD) as (keyof typeof TOLD)[]).map(async (variable) => {
      const status = await statusOf(env[variable] ?? "", ask);
      return status >= 300 && status < 400 ? [{ variable, status }] : [];
    }),
  );
  return found.flat();
}

/** What to do about one, without the address. */
export function redirectAdvice({ variable, status }: Redirected): string {
  return `${variable} answers with status ${status}, a redirect: messages do not arrive through one. Use the address that it leads to.`;
}

async function statusOf(address: string, ask: typeof fetch): Promise<number> {
  if (address === "") return 0;
  try {
    return (await ask(address, { method: "HEAD", redirect: "manual", signal: AbortSignal.timeout(PATIENCE_MS) })).status;
  } catch {
    return 0;
  }
}
