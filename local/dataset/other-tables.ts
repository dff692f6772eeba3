import type { Clinic } from "./clinic.ts";
import type { Cell } from "./copy.ts";
import type { TableRows } from "./load.ts";
import { inventCode, inventName, JSON_TEXTS } from "./names.ts";
import { Random } from "./random.ts";
import { dirty, moment, money } from "./values.ts";

/** Rows of the tables that no entity reads yet, at their real numbers times the scale, with the dirt they are known for. */
export function otherTables(seed: number, scale: number, clinic: Clinic): TableRows[] {
  const size = (atScaleOne: number, least = 2) => Math.max(least, Math.round(atScaleOne * scale));
  const users = clinic.users.map((user) => user.id);
  const instructions = clinic.instructions.map((row) => row.id);
  const products = 14;
  const counts = {
    project: size(72_155),
    plan: size(209_241),
    jaw: size(43_458),
    file: size(327_771),
    record: size(70_742),
    template: size(169, 8),
    role: size(48, 8),
  };
  const make = (
    table: string,
    columns: readonly string[],
    count: number,
    row: (id: number, random: Random) => readonly Cell[],
  ): TableRows => ({
    table,
    columns: ["id", ...columns],
    rows: (function* () {
      const random = Random.for(seed, table);
      for (let id = 1; id <= count; id++) yield [id, ...row(id, random)];
    })(),
  });
  const upTo = (random: Random, count: number) => random.between(1, count);
  const maybe = (random: Random, probability: number, value: Cell): Cell => (random.chance(probability) ? value : null);
  // Ids of content types differ per installation: never constants.
  const models = ["patient", "user", "plan", "instruction", "order", "file", "record", "comment", "project", "task", "vanished"];
  const typeIds = Random.for(seed, "content types").sample(
    Array.from({ length: 60 }, (_, index) => index + 1),
    models.length,
  );
  const typeOf = (model: string) => typeIds[models.indexOf(model)] ?? 1;
  const unparseable = dirty(scale, 40);

  return [
    {
      table: "django_content_type",
      columns: ["id", "app_label", "model"],
      rows: models.map((model, index) => [
        typeIds[index] ?? index,
        model === "user" ? "auth" : model === "vanished" ? "retired_app" : "dispatch",
        model,
      ]),
    },
    make("auth_permission", ["name", "codename", "content_type_id"], size(220, 10), (id, random) => [
      `Can do ${id}`,
      `do_${id}`,
      random.pick(typeIds),
    ]),
    make("dispatch_category", ["name", "parent_id"], size(44, 6), (id) => [`Category ${id}`, id > 3 ? (id % 3) + 1 : null]),
    make(
      "dispatch_product",
      ["name", "description", "free", "deleted", "customization", "type", "substitute", "course_id"],
      products,
      (id, random) => [
        `Product ${id}`,
        maybe(random, 0.5, "A product"),
        random.chance(0.1),
        id > 10,
        random.pick([...JSON_TEXTS.valid, ...JSON_TEXTS.broken, ""]),
        maybe(random, 0.8, (id % 6) + 1),
        random.chance(0.2),
        [1, 2, 3, 4, 7, 8][id % 6] ?? 1,
      ],
    ),
    make("dispatch_product_roles", ["product_id", "role_id"], size(20), (id) => [(id % products) + 1, (id % counts.role) + 1]),
    make("dispatch_product_successors", ["from_product_id", "to_product_id"], size(8), (id) => [
      (id % products) + 1,
      ((id + 1) % products) + 1,
    ]),
    make("dispatch_offer", ["price_both", "price_upper", "price_lower", "doctor_id", "product_id"], size(788), (id, random) => [
      money(random.between(0, 400_000)),
      money(random.between(0, 200_000)),
      maybe(random, 0.9, money(random.between(0, 200_000))),
      id === 1 ? null : random.pick(users),
      upTo(random, products),
    ]),
    make(
      "dispatch_discount",
      ["percent", "reason", "count", "start", "finish", "total", "used", "offer_id"],
      size(151),
      (_, random) => [
        random.between(13, 100),
        maybe(random, 0.7, "Reason"),
        maybe(random, 0.5, random.between(1, 9)),
        maybe(random, 0.5, "2024-01-01"),
        maybe(random, 0.5, "2025-12-31"),
        random.chance(0.3),
        random.between(0, 3),
        upTo(random, size(788)),
      ],
    ),
    make(
      "dispatch_project",
      ["uid", "created_at", "name", "size", "public", "type", "status", "creator_id"],
      counts.project,
      (_, random) => [
        inventCode(random, 32),
        moment(random),
        maybe(random, 0.9, `Project ${inventName(random)}`),
        maybe(random, 0.9, random.between(1, 50_000_000)),
        random.chance(0.2),
        random.pick([3, 3, 3, 0, 10, 11]),
        random.chance(0.0002) ? 2 : 0,
        maybe(random, 0.95, random.pick(users)),
      ],
    ),
    make("dispatch_bracket", ["name", "project_id", "type"], size(1_720), (id, random) => [
      `Bracket ${id} .022 T-7`,
      upTo(random, counts.project),
      random.pick(["std", null]),
    ]),
    make("dispatch_jaw", ["bond_teeth", "extract_teeth", "reason", "product_id", "labial"], counts.jaw, (_, random) => [
      random.between(0, 65_535).toString(2).padStart(16, "0"),
      "0000000000000000",
      maybe(random, 0.2, random.between(1, 3)),
      maybe(random, 0.95, upTo(random, products)),
      random.chance(0.3),
    ]),
    // Several plans per project.
    make("dispatch_plan", ["instruction_id", "project_id", "notes", "number", "name", "original"], counts.plan, (_, random) => [
      random.pick(instructions),
      upTo(random, counts.project),
      maybe(random, 0.2, "Plan notes"),
      maybe(random, 0.9, random.between(1, 9)),
      random.chance(0.1) ? "" : `Plan ${random.between(1, 99)}`,
      random.chance(0.4),
    ]),
    make("dispatch_state", ["status", "on", "changed_at", "actor_id", "instruction_id"], size(5_547), (_, random) => [
      random.chance(0.55) ? 11 : 12,
      random.chance(0.5),
      moment(random),
      maybe(random, 0.9, random.pick(users)),
      random.pick(instructions),
    ]),
    make("dispatch_purchase", ["quantity", "price", "order_id", "product_id"], size(3_701), (_, random) => [
      random.between(1, 5),
      money(random.between(100, 90_000)),
      random.pick(clinic.merchandise).id,
      upTo(random, products),
    ]),
    make(
      "dispatch_globalsetting",
      ["setting", "version", "created_at", "updated_at", "sandbox", "application_id", "location_id", "access_token"],
      1,
      (_, random) => ["{}", "1", moment(random), moment(random), true, "fake-application", "fake-location", "fake-access-token"],
    ),
    make("dispatch_role", ["name", "abbrev", "type", "order", "user_id", "group_id"], counts.role, (id, random) => [
      `Role ${id}`,
      maybe(random, 0.8, `R${id}`),
      random.between(1, 4),
      id,
      maybe(random, 0.2, random.pick(users)),
      random.chance(0.65) ? 11 : 5,
    ]),
    make("dispatch_role_permissions", ["role_id", "permission_id"], size(1_346), (_, random) => [
      upTo(random, counts.role),
      upTo(random, size(220, 10)),
    ]),
    make(
      "dispatch_template",
      [
        "task_name",
        "action_name",
        "text_name",
        "function",
        "status",
        "duration",
        "category_id",
        "predefined",
        "read_only",
        "extensions",
        "alerts",
        "separate",
      ],
      counts.template,
      (id, random) => [
        maybe(random, 0.9, `Task ${id}`),
        maybe(random, 0.5, `Action ${id}`),
        maybe(random, 0.5, `Text ${id}`),
        null,
        random.pick([0, 1, 1]),
        maybe(random, 0.5, random.between(5, 120)),
        upTo(random, size(44, 6)),
        random.chance(0.5),
        random.chance(0.2),
        null,
        null,
        random.chance(0.1),
      ],
    ),
    ...(["edit_roles", "view_roles"] as const).map((name) =>
      make(`dispatch_template_${name}`, ["template_id", "role_id"], size(name === "edit_roles" ? 659 : 1_111), (_, random) => [
        upTo(random, counts.template),
        upTo(random, counts.role),
      ]),
    ),
    make("dispatch_template_view_groups", ["template_id", "group_id"], size(199), (_, random) => [
      upTo(random, counts.template),
      random.pick(clinic.groups).id,
    ]),
    make("dispatch_template_products", ["template_id", "product_id"], size(183), (_, random) => [
      upTo(random, counts.template),
      upTo(random, products),
    ]),
    make("dispatch_template_predecessors", ["from_template_id", "to_template_id"], size(191), (_, random) => [
      upTo(random, counts.template),
      upTo(random, counts.template),
    ]),
    make(
      "dispatch_record",
      ["target_type_id", "target_id", "type", "created_at", "text", "author_id", "group_id", "public"],
      counts.record,
      (id, random) => [
        id % 500 === 0 ? typeOf("vanished") : maybe(random, 0.98, random.chance(0.8) ? typeOf("patient") : typeOf("user")),
        random.pick(users),
        random.pick([3, 5, 6, 8, 4]),
        moment(random),
        `Record ${inventName(random)}`,
        maybe(random, 0.95, random.pick(users)),
        maybe(random, 0.2, random.pick(clinic.groups).id),
        maybe(random, 0.9, random.chance(0.5)),
      ],
    ),
    make("dispatch_record_roles", ["record_id", "role_id"], size(100), (_, random) => [
      upTo(random, counts.record),
      upTo(random, counts.role),
    ]),
    // About half of all files have neither an instruction nor a record; both may be set.
    make(
      "dispatch_file",
      [
        "uid",
        "name",
        "ext",
        "size",
        "type",
        "status",
        "instruction_id",
        "record_id",
        "product_id",
        "description",
        "parameters",
        "created_at",
      ],
      counts.file,
      (id, random) => [
        inventCode(random, 32),
        maybe(random, 0.98, `file${id}.stl${id % 90 === 0 ? ".stl" : ""}`),
        maybe(random, 0.98, ".stl"),
        random.between(1, 90_000_000),
        random.between(1, 13),
        random.between(0, 3),
        maybe(random, 0.5, random.pick(instructions)),
        maybe(random, 0.03, upTo(random, counts.record)),
        null,
        null,
        random.chance(0.01) ? random.pick(JSON_TEXTS.broken) : "{}",
        moment(random),
      ],
    ),
    make("dispatch_comment", ["created_at", "text", "author_id", "plan_id"], size(16_312), (_, random) => [
      moment(random),
      random.chance(0.01) ? null : random.chance(0.01) ? "  " : `Comment ${inventName(random)}?`,
      maybe(random, 0.98, random.pick(users)),
      upTo(random, counts.plan),
    ]),
    make("dispatch_note", ["created_at", "text", "author_id", "doctor_id"], size(963), (_, random) => [
      moment(random),
      maybe(random, 0.98, `Note ${inventName(random)}`),
      random.pick(users),
      random.pick(users),
    ]),
    make(
      "dispatch_notification",
      [
        "created_at",
        "sender",
        "template_name",
        "template_context",
        "read",
        "item_id",
        "item_type_id",
        "recipient_id",
        "sent",
        "send",
      ],
      size(5_700_000),
      (id, random) => {
        const sendable = random.chance(2_039_588 / 5_700_000);
        return [
          moment(random),
          "system",
          `template_${id % 40}`,
          id <= unparseable ? "{'broken" : id % 50 === 0 ? "" : '{"order": 1}',
          id % 3 === 0,
          maybe(random, 0.9, random.pick(instructions)),
          typeOf(id % 9 === 0 ? "vanished" : "instruction"),
          maybe(random, 0.99, random.pick(users)),
          sendable || id % 7 === 0,
          sendable || id % 7 === 1,
        ];
      },
    ),
    make(
      "dispatch_task",
      ["template_id", "text", "checked", "done_at", "actor_id", "instruction_id", "plan_id", "order_id", "file_id", "jaw"],
      size(969_000),
      (_, random) => [
        upTo(random, counts.template),
        maybe(random, 0.2, "Task text"),
        random.chance(0.9),
        maybe(random, 0.9, moment(random)),
        maybe(random, 0.9, random.pick(users)),
        maybe(random, 0.98, random.pick(instructions)),
        maybe(random, 0.3, upTo(random, counts.plan)),
        maybe(random, 0.01, random.pick(clinic.merchandise).id),
        maybe(random, 0.1, upTo(random, counts.file)),
        random.between(0, 2),
      ],
    ),
    make(
      "dispatch_action",
      ["action", "date", "item_id", "item_type_id", "owner_id", "owner_type_id", "data", "user_id"],
      size(3_130_000),
      (id, random) => [
        id % 4 === 0 ? "update" : "create",
        moment(random),
        maybe(random, 0.95, random.pick(instructions)),
        typeOf("instruction"),
        maybe(random, 0.5, random.pick(users)),
        typeOf("user"),
        null,
        maybe(random, 0.95, random.pick(users)),
      ],
    ),
    ...["client", "client3d", "master", "language", "link", "reading", "event"].map((name) =>
      make(`dispatch_${name}`, [], 3, () => []),
    ),
    make("dispatch_instance", [], size(29), () => []),
    make("dispatch_ware", [], size(16_552), () => []),
    make("dispatch_storage", [], 1, () => []),
    make("dispatch_agent", ["user_id"], 2, (_, random) => [random.pick(users)]),
    make("dispatch_doctorsetting_masters", ["doctorsetting_id", "user_id"], size(30), (_, random) => [
      random.pick(clinic.doctorSettings).id,
      random.pick(users),
    ]),
    make("dispatch_doctorsetting_sales", ["doctorsetting_id", "user_id"], size(30), (_, random) => [
      random.pick(clinic.doctorSettings).id,
      random.pick(users),
    ]),
  ];
}
