import type { Config } from "../config.ts";
import { IsthmusError } from "../errors.ts";
import { identify } from "./authenticate.ts";
import type { Caller } from "./caller.ts";
import { assertLength, decodeBody, readBody } from "./read-body.ts";

/** What a function lets in. */
export interface Admission {
  readonly methods: readonly string[];
  readonly callers: readonly Caller["kind"][];
  /** Bytes. */
  readonly largestBody: number;
}

export interface Admitted {
  readonly caller: Caller;
  /** Of a POST; '' otherwise. */
  readonly body: string;
}

/**
 * Lets a request in, in the order of what that costs: its method, the length that it claims, the caller by the
 * headers alone, and only then its body, up to the limit. So a stranger's body is never read, and nobody's is read
 * without an end.
 * @param functionName the function's own name: QStash signs the public address, which the request may not show.
 * @throws IsthmusError METHOD_NOT_ALLOWED, BODY_TOO_LARGE, UNAUTHENTICATED, FORBIDDEN, BODY_TOO_SLOW or
 * REQUEST_INVALID.
 */
export async function admit(
  request: Request,
  config: () => Config,
  functionName: string,
  { methods, callers, largestBody }: Admission,
): Promise<Admitted> {
  try {
    if (!methods.includes(request.method)) throw new IsthmusError("METHOD_NOT_ALLOWED");
    assertLength(request, largestBody);
    const { caller, acceptBody } = await identify(request.headers, config(), functionName);
    if (!callers.includes(caller.kind)) throw new IsthmusError("FORBIDDEN", `A ${caller.kind} may not call ${functionName}.`);
    const bytes = request.method === "POST" ? await readBody(request, largestBody) : new Uint8Array();
    acceptBody(bytes);
    return { caller, body: decodeBody(bytes) };
  } catch (error) {
    // What is still under way is not wanted any more. A body that is being read has been given up by its reader.
    if (request.body?.locked === false) await request.body.cancel().catch(() => undefined);
    throw error;
  }
}
