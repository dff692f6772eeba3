// A music shop as the engine sees it: eleven tables with names as their applications wrote them.
import type { Installation } from "../../shared/entity/installation.ts";
import { denied } from "./denied.ts";
import { codeHashes, registry } from "./entities/registry.gen.ts";
import { besideColumns, sourceKinds, targetKinds } from "./schema/column-kinds.gen.ts";

export const installation: Installation = {
  entities: registry,
  codeHashes,
  columns: { source: sourceKinds, target: targetKinds, beside: besideColumns },
  denied,
};
