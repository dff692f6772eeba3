import { z } from "zod";
import { parseDestination, parsePublishSettings } from "./publish-settings.ts";
import { RequestRefused } from "./types.ts";
import type { HeaderMap, PublishSettings } from "./types.ts";

const Batch = z.array(
  z.object({
    destination: z.string(),
    headers: z.record(z.string(), z.string()).optional(),
    body: z.string().nullish(),
    queue: z.undefined({ error: "queues are not spoken by the local stand-in" }).optional(),
  }),
);

export interface BatchEntry {
  readonly url: string;
  readonly settings: PublishSettings;
  readonly body: Buffer;
}

/** The messages of `POST /v2/batch`, each as a call that throws RequestRefused when it is malformed. Throws so itself when the body is no batch. */
export function parseBatch(body: Buffer): readonly (() => BatchEntry)[] {
  return readBatch(body).map(({ destination, headers, body: text }) => () => {
    const lowered: Record<string, readonly string[]> = {};
    for (const [name, value] of Object.entries(headers ?? {})) lowered[name.toLowerCase()] = [value];
    const settings = parsePublishSettings(lowered satisfies HeaderMap);
    return { url: parseDestination(destination), settings, body: Buffer.from(text ?? "") };
  });
}

function readBatch(body: Buffer): z.infer<typeof Batch> {
  let json: unknown;
  try {
    json = JSON.parse(body.toString("utf8"));
  } catch {
    throw new RequestRefused(400, "the batch is not JSON");
  }
  const parsed = Batch.safeParse(json);
  if (!parsed.success) throw new RequestRefused(400, `invalid batch: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}
