import pc from "picocolors";

let hushed = false;

/** The demo's only way to print. */
export function line(text = ""): void {
  if (!hushed) process.stdout.write(`${text}\n`);
}

/** Prints nothing any more: what goes on while the demo is being stopped is no news. */
export function hush(): void {
  hushed = true;
}

export function heading(text: string): void {
  line(`\n${pc.bold(pc.cyan(text))}`);
}

export function dim(text: string): string {
  return pc.dim(text);
}

export function good(text: string): string {
  return pc.green(text);
}

export function bad(text: string): string {
  return pc.red(text);
}

/** Columns aligned to their widest cell; numbers to the right. */
export function table(header: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  const cells = [header, ...rows.map((row) => row.map((cell) => (typeof cell === "number" ? cell.toLocaleString("en") : cell)))];
  const widths = header.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? "").length)));
  cells.forEach((row, index) => {
    const text = row
      .map((cell, column) =>
        typeof rows[0]?.[column] === "number" ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join("  ");
    line(`  ${index === 0 ? dim(text) : text}`);
  });
}
