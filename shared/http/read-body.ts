import { IsthmusError } from "../errors.ts";

/** Longer than any body takes that a function expects (a megabyte at 100 kB/s), and far shorter than an invocation may last. */
const BODY_MS = 15_000;

/** Refuses a request that claims a longer body. One that claims nothing, or lies, is found out when it is read. @throws IsthmusError BODY_TOO_LARGE. */
export function assertLength(request: Request, limit: number): void {
  if (Number(request.headers.get("content-length") ?? 0) > limit) throw tooLarge(limit);
}

/**
 * The body as it came. Reading stops at the limit, whatever the request says of the length, and when the time is over.
 * @throws IsthmusError BODY_TOO_LARGE; BODY_TOO_SLOW; REQUEST_INVALID for a body that breaks off.
 */
export async function readBody(request: Request, limit: number, withinMs = BODY_MS): Promise<Uint8Array> {
  if (!request.body) return new Uint8Array();
  const reader = request.body.getReader();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, refuse) => {
    timer = setTimeout(() => refuse(tooSlow(withinMs)), withinMs);
  });
  try {
    return await Promise.race([readAll(reader, limit), late]);
  } catch (error) {
    // Not awaited: a sender that is silent may be silent here as well.
    void reader.cancel().catch(() => undefined);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The text of a body, strictly: a replaced character would ask for other records than the sender meant.
 * @throws IsthmusError REQUEST_INVALID for what is no UTF-8.
 */
export function decodeBody(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new IsthmusError("REQUEST_INVALID", "The body is not UTF-8.", { cause: error });
  }
}

async function readAll(reader: ReadableStreamDefaultReader<Uint8Array>, limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      throw new IsthmusError("REQUEST_INVALID", "The body broke off.", { cause: error });
    });
    if (done) return joined(chunks, size);
    size += value.length;
    if (size > limit) throw tooLarge(limit);
    chunks.push(value);
  }
}

function joined(chunks: readonly Uint8Array[], size: number): Uint8Array {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

function tooLarge(limit: number): IsthmusError {
  return new IsthmusError("BODY_TOO_LARGE", `The body is longer than ${limit.toLocaleString("en")} bytes.`, {
    detail: { limit },
  });
}

function tooSlow(withinMs: number): IsthmusError {
  return new IsthmusError("BODY_TOO_SLOW", `The body was not there after ${withinMs / 1_000} seconds.`);
}
