/** Who has called a function. */
export type Caller =
  | { readonly kind: "machine"; readonly name: string }
  | { readonly kind: "qstash" }
  /** METRICS_TOKEN: reads metrics, and nothing else. */
  | { readonly kind: "metrics" }
  | { readonly kind: "user"; readonly id: string; readonly role: "operator" | "reviewer" };

/** How the caller is written down: ids and names only. */
export function callerName(caller: Caller): string {
  switch (caller.kind) {
    case "machine":
      return `http:machine:${caller.name}`;
    case "qstash":
    case "metrics":
      return caller.kind;
    case "user":
      return `http:user:${caller.id}`;
  }
}
