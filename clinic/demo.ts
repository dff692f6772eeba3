// What `npm run demo` shows of the clinic. It runs on this machine alone: the functions carry nothing of it.
import type { Demo } from "../local/demo/demo.ts";
import { applyEdits } from "./dataset/edit.ts";
import { loadLegacy } from "./dataset/load.ts";

export const demo: Demo = {
  load: async (url, { seed, scale }) => {
    const { tables } = await loadLegacy({ url, seed, scale, logScale: 0.001 });
    return { rows: Object.values(tables).reduce((sum, count) => sum + count, 0), tables: Object.keys(tables).length };
  },
  edit: (url, seed) => applyEdits({ url, seed, count: 300 }),
  bothSides: [
    {
      entity: "offices",
      legacyKey: "legacy_office_id",
      where: "true",
      source: "update public.dispatch_office set name = name || ' (moved)' where id = $1",
      target: "update public.offices set name = name || ', 2nd floor' where legacy_office_id = $1",
      said: "an office gets a new name in the old application, and another one in the new",
      decide: (id) => [`update sync_conflicts set resolution_strategy = 'source_wins', resolved_by = 'you' where id = '${id}';`],
      meaning: "what the old application says is written; the other name stays in the queue and can be put back",
    },
    {
      entity: "patients",
      legacyKey: "legacy_patient_id",
      // Of a patient whose date of birth nobody knows nothing can be corrected.
      where: "date_of_birth is not null",
      source: "update public.dispatch_patient set birthdate = birthdate + 1 where id = $1",
      target: "update public.patients set date_of_birth = date_of_birth + 365 where legacy_patient_id = $1",
      said: "a patient's date of birth is corrected on either side, differently",
      decide: (id) => [
        `select sync.reveal('${id}');`,
        `update sync_conflicts set resolution_strategy = 'merge', resolution_data = '{"date_of_birth": "1980-02-29"}' where id = '${id}';`,
      ],
      meaning: "clinical values are masked: looking at them leaves a trace in sync_audit; then a third value is written",
    },
    {
      entity: "operations",
      legacyKey: "legacy_operation_id",
      where: "true",
      source: "update public.dispatch_operation set attempts = coalesce(attempts, 0) + 1 where id = $1",
      target: "delete from public.operations where legacy_operation_id = $1",
      said: "a card operation is deleted in the new application, and changes in the old",
      decide: (id) => [`update sync_conflicts set resolution_strategy = 'target_wins' where id = '${id}';`],
      meaning: "the row stays away, and is not asked about again until the source changes it",
    },
  ],
  money: [
    { entity: "orders", column: "amount", table: "dispatch_instruction", price: "price", key: "id" },
    { entity: "payments", column: "amount", table: "dispatch_payment", price: "total_price", key: "id" },
    { entity: "payments", column: "paid_amount", table: "dispatch_payment", price: "paid_price", key: "id" },
    { entity: "operations", column: "amount", table: "dispatch_operation", price: "price", key: "id" },
    { entity: "doctors", column: "credit", table: "dispatch_doctorsetting", price: "credit", key: "user_id" },
    { entity: "offers", column: "price_both", table: "dispatch_offer", price: "price_both", key: "id" },
    { entity: "offers", column: "price_upper", table: "dispatch_offer", price: "price_upper", key: "id" },
    { entity: "offers", column: "price_lower", table: "dispatch_offer", price: "price_lower", key: "id" },
    { entity: "purchases", column: "unit_price", table: "dispatch_purchase", price: "price", key: "id" },
  ],
  query: {
    says: "where did legacy patient 42 go",
    lines: [
      "select p.* from uuid_mappings_enhanced m join patients p on p.id = m.entity_uuid where m.entity_type = 'patients' and m.legacy_id = 42;",
    ],
  },
};
