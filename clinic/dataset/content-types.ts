import { at, Random } from "./random.ts";
import { table, type TableRows } from "./table.ts";

const MODELS = ["patient", "plan", "instruction", "order", "file", "record", "comment", "project", "task", "payment", "office"];
/** A model of an application that is gone, and one there that only shares its name with a model that is an entity. */
const RETIRED = ["vanished", "patient"] as const;

export type Model =
  | "dispatch.patient"
  | "dispatch.instruction"
  | "dispatch.plan"
  | "dispatch.office"
  | "auth.user"
  | `retired_app.${(typeof RETIRED)[number]}`;

export interface ContentTypes {
  readonly rows: TableRows;
  readonly ids: readonly number[];
  /** The id of a model's content type, which differs per installation. */
  readonly of: (model: Model) => number;
  /** `app_label.model` of a content type. */
  readonly nameOf: (id: number | null) => string | null;
}

/** 51 content types, as in the real installation; two belong to an application that is gone. */
export function makeContentTypes(seed: number): ContentTypes {
  const others = Array.from({ length: 51 - MODELS.length - RETIRED.length - 1 }, (_, index) => `model${index + 1}`);
  const types = [
    ...[...MODELS, ...others].map((model) => ({ app: "dispatch", model })),
    { app: "auth", model: "user" },
    ...RETIRED.map((model) => ({ app: "retired_app", model })),
  ];
  const pool = Array.from({ length: 60 }, (_, index) => index + 1);
  const ids = Random.for(seed, "content types").sample(pool, types.length);
  const rows = types.map((type, index) => ({ id: at(ids, index), ...type }));
  const names = new Map(rows.map(({ id, app, model }) => [id, `${app}.${model}`]));
  const byName = new Map(rows.map(({ id, app, model }) => [`${app}.${model}`, id]));
  return {
    rows: table("django_content_type", "id app_label model", rows, (row) => [row.id, row.app, row.model]),
    ids,
    of: (model) => {
      const id = byName.get(model);
      if (id === undefined) throw new RangeError(`no content type ${model}`);
      return id;
    },
    nameOf: (id) => (id === null ? null : (names.get(id) ?? null)),
  };
}
