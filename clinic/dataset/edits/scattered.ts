import { change, type Edit } from "./edit.ts";

/** Changes of single rows of people, orders, money and the catalogue; those of orders' patients reach their orders and cases. */
export function scatteredEdits(seed: number, count: number): Edit[] {
  const update = (table: string, share: number, set: string, where?: string) => change(seed, table, count * share, set, where);
  return [
    update("dispatch_payment", 0.3, "paid = not paid, paid_price = case when paid then 0 else total_price end"),
    update("dispatch_instruction", 0.13, "status = case status when 0 then 1 when 1 then 2 else 4 end"),
    update("dispatch_instruction", 0.01, `scanner = coalesce(scanner, 0) + 1, conditions = '{"edited": ${seed}}'`),
    update("dispatch_instruction", 0.11, "price = case when price < 99999999 then price + 0.01 else 1 end"),
    // The jaws change places, whose own rows say nothing of it.
    update("dispatch_instruction", 0.01, "upper_jaw_id = lower_jaw_id, lower_jaw_id = upper_jaw_id", "upper_jaw_id is not null"),
    update("auth_user", 0.1, `last_name = 'Renamed' || id % 7 + ${seed}`),
    update("dispatch_patient", 0.01, `suffix = 'E' || lpad((id % 997)::text, 3, '0')`),
    update("dispatch_patient", 0.01, "archived = not archived"),
    update("dispatch_office", 0.03, "phone = '+1 555 0100', tax_rate = 9.5000"),
    update("dispatch_operation", 0.02, "attempts = coalesce(attempts, 0) + 1"),
    update("dispatch_doctorsetting", 0.01, "credit = coalesce(credit, 0) + 0.01"),
    update("auth_permission", 0.003, "codename = codename || '_edited'"),
    update("dispatch_role", 0.003, 'abbrev = \'ED\', "order" = coalesce("order", 0) + 1'),
    update("dispatch_category", 0.003, "name = name || ' (edited)'"),
    update("dispatch_course", 0.003, `customization = '{"edited": ${seed}}'`),
    update("dispatch_product", 0.003, "deleted = not deleted"),
    update("dispatch_offer", 0.01, "price_both = least(coalesce(price_both, 0) + 0.01, 99999999)"),
    update("dispatch_discount", 0.003, "used = coalesce(used, 0) + 1"),
    update("dispatch_purchase", 0.01, "quantity = quantity + 1"),
    update("dispatch_template", 0.003, "task_name = coalesce(task_name, '') || ' (edited)'"),
    update("dispatch_template_products", 0.003, "product_id = (select max(id) from public.dispatch_product)"),
    update("dispatch_jaw", 0.01, "labial = not labial"),
    update("dispatch_state", 0.01, `"on" = not "on"`),
    update("dispatch_note", 0.01, "text = coalesce(text, '') || ' (edited)'"),
  ];
}
