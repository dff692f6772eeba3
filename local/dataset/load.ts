import postgres, { type Sql } from "postgres";
import { makeClinic, type Clinic } from "./clinic.ts";
import { copyRows, type Cell } from "./copy.ts";
import { expectations, type Manifest } from "./manifest.ts";
import { otherTables } from "./other-tables.ts";
import { createLegacySchema } from "./schema.ts";

export interface LoadOptions {
  /** The legacy database, as its owner. */
  readonly url: string;
  readonly seed?: number;
  /** 1: the real numbers of rows. */
  readonly scale?: number;
  /** Scale of the large tables that no entity here reads (notifications, actions, tasks, files …). */
  readonly logScale?: number;
  readonly onProgress?: (table: string, rows: number) => void;
}

/** A table's columns and rows, in the order in which foreign keys want them. */
export interface TableRows {
  readonly table: string;
  readonly columns: readonly string[];
  readonly rows: Iterable<readonly Cell[]>;
}

/**
 * Generates the legacy database: every dispatch_* table, realistic volumes and skew, every known kind of dirt. The same
 * seed and scale give the same rows. Loaded by COPY in one transaction, so that a failure leaves nothing.
 */
export async function loadLegacy(options: LoadOptions): Promise<Manifest> {
  const { url, seed = 1, scale = 1, logScale = scale } = options;
  const clinic = makeClinic(seed, scale);
  await createLegacySchema(url);
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  const tables: Record<string, number> = {};
  try {
    await sql.begin(async (tx) => {
      for (const { table, columns, rows } of [...clinicTables(clinic), ...otherTables(seed, logScale, clinic)]) {
        tables[table] = await copyRows(tx as unknown as Sql, table, columns, rows);
        options.onProgress?.(table, tables[table]);
      }
      await tx.unsafe("set constraints all immediate");
    });
    await sql.unsafe("analyze");
  } finally {
    await sql.end();
  }
  return { seed, scale, tables, entities: expectations(clinic) };
}

function* mapRows<T>(items: readonly T[], toRow: (item: T) => readonly Cell[]): Iterable<readonly Cell[]> {
  for (const item of items) yield toRow(item);
}

/** The source tables of the seven entities. */
export function clinicTables(clinic: Clinic): TableRows[] {
  const fakeHash = "pbkdf2_sha256$fake$not-a-password";
  return [
    { table: "auth_group", columns: ["id", "name"], rows: mapRows(clinic.groups, (g) => [g.id, g.name]) },
    {
      table: "auth_user",
      columns: [
        "id",
        "username",
        "first_name",
        "last_name",
        "email",
        "password",
        "is_superuser",
        "is_staff",
        "is_active",
        "date_joined",
        "last_login",
      ],
      rows: mapRows(clinic.users, (u) => [
        u.id,
        u.username,
        u.first,
        u.last,
        u.email,
        fakeHash,
        u.superuser,
        u.staff,
        u.active,
        u.joined,
        u.lastLogin,
      ]),
    },
    {
      table: "auth_user_groups",
      columns: ["id", "user_id", "group_id"],
      rows: mapRows(clinic.userGroups, (m) => [m.id, m.user, m.group]),
    },
    {
      table: "dispatch_office",
      columns: [
        "id",
        "name",
        "address",
        "apt",
        "city",
        "state",
        "zip",
        "country",
        "phone",
        "tax_rate",
        "valid",
        "sq_customer_id",
        "emails",
      ],
      rows: mapRows(clinic.offices, (o) => [
        o.id,
        o.name,
        o.address,
        o.apt,
        o.city,
        o.state,
        o.zip,
        o.country,
        o.phone,
        o.taxRate,
        o.valid,
        o.square,
        o.emails,
      ]),
    },
    {
      table: "dispatch_office_doctors",
      columns: ["id", "office_id", "user_id"],
      rows: mapRows(clinic.officeDoctors, (d) => [d.id, d.office, d.user]),
    },
    {
      table: "dispatch_doctorsetting",
      columns: [
        "id",
        "user_id",
        "clinical_preferences",
        "sq_customer_id",
        "promised_payment",
        "credit",
        "tier_finish",
        "tier_type",
        "installment_payments",
        "baa_agreed_at",
        "eula_agreed_at",
        "company_account",
      ],
      rows: mapRows(clinic.doctorSettings, (s) => [
        s.id,
        s.user,
        s.preferences,
        s.square,
        s.promised,
        s.credit,
        s.tierFinish,
        s.tierType,
        s.installments,
        s.baa,
        s.eula,
        s.company,
      ]),
    },
    { table: "dispatch_usersetting", columns: ["id", "user_id"], rows: mapRows(clinic.userSettings, (s) => [s.id, s.user]) },
    {
      table: "dispatch_patient",
      columns: [
        "id",
        "user_id",
        "doctor_id",
        "office_id",
        "birthdate",
        "sex",
        "suffix",
        "status",
        "archived",
        "suspended",
        "schemes",
        "submitted_at",
        "updated_at",
      ],
      rows: mapRows(clinic.patients, (p) => [
        p.id,
        p.user,
        p.doctor,
        p.office,
        p.birthdate,
        p.sex,
        p.suffix,
        p.status,
        p.archived,
        p.suspended,
        p.schemes,
        p.submitted,
        p.updated,
      ]),
    },
    {
      table: "dispatch_course",
      columns: ["id", "name", "type", "customization"],
      rows: mapRows(clinic.courses, (c) => [c.id, c.name, c.type, c.customization]),
    },
    { table: "dispatch_order", columns: ["id", "course_id"], rows: mapRows(clinic.merchandise, (o) => [o.id, o.course]) },
    {
      table: "dispatch_instruction",
      columns: [
        "id",
        "patient_id",
        "course_id",
        "status",
        "deleted",
        "submitted_at",
        "updated_at",
        "suffix",
        "cbct",
        "notes",
        "complaint",
        "objective",
        "exports",
        "price",
      ],
      rows: mapRows(clinic.instructions, (i) => [
        i.id,
        i.patient,
        i.course,
        i.status,
        i.deleted,
        i.submitted,
        i.updated,
        i.suffix,
        i.id % 3 === 0,
        i.notes,
        i.complaint,
        i.objective,
        i.exports,
        i.price,
      ]),
    },
    {
      table: "dispatch_payment",
      columns: [
        "id",
        "made_at",
        "instruction_id",
        "order_id",
        "doctor_id",
        "office_id",
        "total_price",
        "subtotal_price",
        "paid_price",
        "additional_price",
        "custom_price",
        "tax_rate",
        "tax_value",
        "used_credit",
        "paid",
        "canceled",
        "free",
        "netsuite",
        "installments",
      ],
      rows: mapRows(clinic.payments, (p) => [
        p.id,
        p.made,
        p.instruction,
        p.order,
        p.doctor,
        p.office,
        p.total,
        p.subtotal,
        p.paidPrice,
        p.additional,
        p.custom,
        p.taxRate,
        p.tax,
        p.credit,
        p.paid,
        p.canceled,
        p.free,
        p.netsuite,
        p.installments,
      ]),
    },
    {
      table: "dispatch_operation",
      columns: [
        "id",
        "payment_id",
        "type",
        "made_at",
        "price",
        "sq_order_id",
        "sq_payment_id",
        "sq_refund_id",
        "card_brand",
        "card_bin",
        "card_last",
        "office_card",
        "attempts",
      ],
      rows: mapRows(clinic.operations, (o) => [
        o.id,
        o.payment,
        o.type,
        o.made,
        o.price,
        o.sqOrder,
        o.sqPayment,
        o.sqRefund,
        o.brand,
        o.bin,
        o.last,
        o.officeCard,
        o.attempts,
      ]),
    },
  ];
}
