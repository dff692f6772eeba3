import type { AdoptionPreview } from "./answers.ts";
import { formatTable } from "./output.ts";

/** What an adoption would find, for a person. */
export function showPreview(preview: readonly AdoptionPreview[]): string {
  const table = formatTable(
    ["entity", "ids with one row", "ambiguous ids", "in rows", "without legacy id", "state"],
    preview.map((p) => [
      p.entity,
      p.adoptable,
      p.ambiguous,
      p.ambiguousRows,
      p.withoutLegacyId,
      p.open ? "adopted and synced already" : p.adoptable + p.ambiguous + p.withoutLegacyId === 0 ? "empty" : "to be adopted",
    ]),
  );
  const slow = preview.filter((p) => !p.indexed && p.adoptable + p.ambiguousRows > 0).map((p) => p.table);
  return slow.length === 0
    ? table
    : `${table}\nNo index leads with the legacy id of ${slow.join(", ")}: every page reads the whole table. It works, and an index makes it faster.\n`;
}
