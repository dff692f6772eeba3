import { at, Random } from "./random.ts";
import { table, type TableRows } from "./table.ts";

const MODELS = ["patient", "plan", "instruction", "order", "file", "record", "comment", "project", "task", "payment", "office"];
const RETIRED = "vanished";

export interface ContentTypes {
  readonly rows: TableRows;
  readonly ids: readonly number[];
  /** The id of a model's content type, which differs per installation. */
  readonly of: (model: "patient" | "user" | "instruction" | typeof RETIRED) => number;
}

/** 51 content types, as in the real installation; one belongs to an application that is gone. */
export function makeContentTypes(seed: number): ContentTypes {
  const others = Array.from({ length: 51 - MODELS.length - 2 }, (_, index) => `model${index + 1}`);
  const types = [
    ...[...MODELS, ...others].map((model) => ({ app: "dispatch", model })),
    { app: "auth", model: "user" },
    { app: "retired_app", model: RETIRED },
  ];
  const pool = Array.from({ length: 60 }, (_, index) => index + 1);
  const ids = Random.for(seed, "content types").sample(pool, types.length);
  const rows = types.map((type, index) => ({ id: at(ids, index), ...type }));
  return {
    rows: table("django_content_type", "id app_label model", rows, (row) => [row.id, row.app, row.model]),
    ids,
    of: (model) => rows.find((row) => row.model === model)?.id ?? 0,
  };
}
