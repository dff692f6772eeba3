import type { File } from "../large-rows.ts";
import type { LargeObservers, Ways } from "../manifest.ts";
import { NOT_JSON, unparseable } from "./json.ts";
import type { Ledger } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;

/** A file, and where it belongs: to an order and its case, to a message, to both or to neither. */
export function filesObserver(ledger: Ledger, { patientOf }: Ways): Pick<LargeObservers, "file"> {
  const ordered = { rule: "ordered@1", holds: (row: File) => row.instruction !== null };
  const judges = [
    openFiles(ledger),
    ledger.open<File>("order_files", {
      id,
      predicate: ordered,
      parents: [
        ["order_id", "orders", (row) => row.instruction],
        ["file_id", "files", id],
      ],
    }),
    ledger.open<File>("case_files", {
      id,
      predicate: ordered,
      parents: [
        ["case_id", "cases", (row) => patientOf.get(row.instruction ?? 0) ?? null],
        ["file_id", "files", id],
      ],
    }),
    ledger.open<File>("message_attachments", {
      id,
      predicate: { rule: "attached@1", holds: (row) => row.record !== null },
      parents: [
        ["message_id", "messages", (row) => row.record],
        ["file_id", "files", id],
      ],
    }),
  ];
  return {
    file: (row) => {
      for (const judge of judges) judge(row);
    },
  };
}

function openFiles(ledger: Ledger): (row: File) => void {
  return ledger.open<File>("files", {
    id,
    parents: [
      ["order_id", "orders", (row) => row.instruction],
      ["product_id", "products", (row) => row.product],
    ],
    golden: [
      [(row) => row.instruction === null && row.record === null, () => ({ order_id: null })],
      [(row) => row.name?.endsWith(".stl.stl") === true, (row) => ({ filename: row.name, extension: row.ext })],
      [(row) => row.name === null, () => ({ filename: null })],
      [(row) => row.ext === null, () => ({ extension: null })],
      [(row) => row.ext === "stl", () => ({ extension: "stl" })],
      [(row) => row.size === 0, () => ({ file_size_bytes: "0" })],
      [(row) => row.size === 5_000_000_000, () => ({ file_size_bytes: "5000000000" })],
      [(row) => row.type === 99, () => ({ type_code: "99", status_code: "-1" })],
      [(row) => row.parameters === "", () => ({ parameters: null })],
      [(row) => row.parameters === "[]", () => ({ parameters: "[]" })],
      [(row) => row.parameters === "null", () => ({ parameters: "null" })],
      ...Object.values(NOT_JSON).map(
        (text) => [(row: File) => row.parameters === text, () => ({ parameters: unparseable(text) })] as const,
      ),
    ],
  });
}
