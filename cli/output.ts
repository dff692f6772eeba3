import type { Environment } from "./settings.ts";

/** What a command sees of the process around it. */
export interface Terminal {
  readonly env: Environment;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Moving bars are drawn only there. */
  readonly interactive: boolean;
  /** Between two looks at a running execution. */
  readonly pause: () => Promise<void>;
  /** Asks the person who sits there; without one, nobody can be asked. */
  readonly ask?: (question: string) => Promise<string>;
}

/** Columns aligned to their widest cell, numbers to the right. */
export function formatTable(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const text = [header, ...rows.map((row) => row.map((cell) => (typeof cell === "number" ? cell.toLocaleString("en") : cell)))];
  const widths = header.map((_, column) => Math.max(...text.map((row) => (row[column] ?? "").length)));
  return text
    .map((row) =>
      row
        .map((cell, column) =>
          typeof rows[0]?.[column] === "number" ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
        )
        .join("  ")
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join("");
}
