import { spreader, type Dirt } from "./dirt.ts";
import type { File, Surroundings } from "./large-rows.ts";
import { HOSTILE_TEXTS, inventUid, JSON_TEXTS } from "./names.ts";
import { at } from "./random.ts";
import { LANDED_RECORD, QUEUED_RECORD, WAITING_RECORD } from "./records.ts";
import type { Stream } from "./stream.ts";
import { moment, nthId } from "./values.ts";

/** The first file waits for its order. */
export const WAITING_FILE = nthId(1);

/** 45 in 100 have an instruction and 2.7 a record, some both; about half have neither. */
export function files({ clinic, held, counts }: Surroundings): Stream<File> {
  const oddParameters = [...JSON_TEXTS.broken, ...JSON_TEXTS.unknownToJsonb, "", "[]", "null"];
  const spread = spreader<File>([
    [60_000, (row) => (row.instruction = at(held.instructions, 0))],
    [60_001, (row) => (row.instruction = at(held.instructionsOfPatients, 0))],
    [60_002, (row) => (row.record = QUEUED_RECORD)],
    [60_003, (row) => (row.record = WAITING_RECORD)],
    [60_005, (row) => Object.assign(row, { instruction: at(held.instructions, 0), record: LANDED_RECORD })],
    [60_004, (row) => Object.assign(row, { instruction: at(held.instructions, 0), record: QUEUED_RECORD })],
    [1_000, (row) => Object.assign(row, { instruction: null, record: null })],
    [1_001, (row) => Object.assign(row, { instruction: at(clinic.instructions, 0).id, record: LANDED_RECORD })],
    [90, (row) => (row.name = `file${row.id}.stl.stl`)],
    [91, (row) => (row.name = null)],
    [92, (row) => (row.ext = null)],
    [1_002, (row) => (row.ext = "stl")],
    [1_003, (row) => (row.size = 0)],
    [1_004, (row) => (row.size = 5_000_000_000)],
    [1_005, (row) => Object.assign(row, { type: 99, status: -1 })],
    [1_006, (row, time) => (row.description = at(HOSTILE_TEXTS, time % HOSTILE_TEXTS.length))],
    [100, (row) => (row.product = at(clinic.products, 0).id)],
    ...oddParameters.map((text, index): Dirt<File> => [1_007 + index, (row) => (row.parameters = text)]),
  ]);
  return {
    table: "dispatch_file",
    columns: "id uid name ext size type status instruction_id record_id product_id description parameters created_at",
    count: counts.files,
    make: (random, id, position) => {
      const row: File = {
        id,
        uid: inventUid(random),
        name: `file${id}.stl`,
        ext: ".stl",
        size: random.between(1, 90_000_000),
        type: random.between(1, 13),
        status: random.between(0, 3),
        instruction: random.chance(0.49) ? random.pick(clinic.instructions).id : null,
        record: random.chance(0.027) ? nthId(random.between(1, counts.records)) : null,
        product: null,
        description: null,
        parameters: "{}",
        created: moment(random),
      };
      spread(row, position);
      return row;
    },
    cells: (row) => [
      ...[row.id, row.uid, row.name, row.ext, row.size, row.type, row.status, row.instruction, row.record, row.product],
      ...[row.description, row.parameters, row.created],
    ],
  };
}
