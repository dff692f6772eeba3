import type { Difference } from "./difference.ts";

/** Above this line a migration is a person's, below it the command's. */
const GENERATED =
  "-- What follows was written by `npm run migration` from supabase/schemas/. It is written anew as long as no release has it.";

export function draftSql(name: string, { statements, byHand }: Difference): string {
  const header = [
    `-- Purpose: ${name.replaceAll("_", " ")}.`,
    "-- Locks:   ",
    "-- Reverse: ",
    ...(byHand.length === 0
      ? []
      : [
          "",
          "-- TO WRITE: the statements that bring a filled database from the one to the other. Then delete these lines, and run",
          "-- `npm run migration` again.",
          ...byHand.map((line) => `--   ${line.replaceAll("\n", " ")}`),
        ]),
  ];
  return withGenerated(header.join("\n"), statements);
}

/** What a person has still to write in a migration. Empty: nothing. */
export function leftToWrite(sql: string): readonly string[] {
  const hand = handPart(sql);
  return [
    ...(/^-- TO WRITE:/m.test(hand) ? ["its statements are still TO WRITE"] : []),
    ...["Purpose", "Locks", "Reverse"]
      .filter((heading) => !new RegExp(`^-- ${heading}: +\\S`, "m").test(hand))
      .map((heading) => `its heading does not say "${heading}:"`),
  ];
}

/** What a person has written of a migration: everything above the command's part. */
export function handPart(sql: string): string {
  return sql.split(GENERATED)[0]?.trimEnd() ?? "";
}

export function withGenerated(hand: string, statements: readonly string[]): string {
  return `${hand.trimEnd()}\n\n${GENERATED}\n${statements.map((statement) => `\n${statement}\n`).join("")}`;
}
