import type { Sql } from "postgres";

type Values = Readonly<Record<string, string | number | boolean | null>>;

/** Rows of the legacy source with as few columns as a test has something to say about. Each call is one committed transaction. */
export interface Seeds {
  /** Any row. */
  row(table: string, values: Values): Promise<void>;
  /** A row whose foreign keys are not checked: its parents may be missing, as in a database that was restored in part. */
  orphan(table: string, values: Values): Promise<void>;
  group(id: number, name: string): Promise<void>;
  user(id: number, values?: { username?: string; superuser?: boolean; email?: string }): Promise<void>;
  /** A user who is a doctor, by a doctor's setting of the same id. */
  doctor(userId: number, values?: { credit?: string }): Promise<void>;
  membership(id: number, userId: number, groupId: number): Promise<void>;
  office(id: number, values?: { name?: string }): Promise<void>;
  /** A patient and its user. */
  patient(id: number, values: PatientSeed): Promise<void>;
  course(id: number, name?: string): Promise<void>;
  instruction(id: number, patientId: number, values?: InstructionSeed): Promise<void>;
  payment(id: number, values?: PaymentSeed): Promise<void>;
  operation(id: number, values?: { paymentId?: number | null; type?: number | null; price?: string }): Promise<void>;
}

export interface PatientSeed {
  readonly userId: number;
  readonly doctorId?: number | null;
  readonly officeId?: number | null;
  readonly status?: number | null;
  readonly suffix?: string;
}
export interface InstructionSeed {
  readonly courseId?: number | null;
  readonly status?: number;
  readonly price?: string | null;
  readonly notes?: string | null;
}
export interface PaymentSeed {
  readonly instructionId?: number | null;
  readonly doctorId?: number | null;
  readonly officeId?: number | null;
  readonly total?: string;
  readonly paid?: boolean;
}

const JOINED = "2020-01-01T00:00:00Z";

export function createSeeds(source: Sql): Seeds {
  const insert = async (table: string, values: Values) => {
    await source`insert into ${source(`public.${table}`)} ${source(values)}`;
  };
  const user: Seeds["user"] = (id, values = {}) =>
    insert("auth_user", {
      id,
      username: values.username ?? `user-${id}`,
      first_name: "",
      last_name: "",
      email: values.email ?? "",
      password: "",
      is_superuser: values.superuser ?? false,
      is_staff: false,
      is_active: true,
      date_joined: JOINED,
    });
  return {
    row: insert,
    orphan: async (table, values) => {
      await source.begin(async (tx) => {
        await tx`set local session_replication_role = replica`;
        await tx`insert into ${tx(`public.${table}`)} ${tx(values)}`;
      });
    },
    group: (id, name) => insert("auth_group", { id, name }),
    user,
    doctor: async (userId, values = {}) => {
      await user(userId);
      await insert("dispatch_doctorsetting", { id: userId, user_id: userId, credit: values.credit ?? null });
    },
    membership: (id, userId, groupId) => insert("auth_user_groups", { id, user_id: userId, group_id: groupId }),
    office: (id, values = {}) =>
      insert("dispatch_office", { id, name: values.name ?? `office ${id}`, valid: true, emails: true }),
    patient: async (id, values) => {
      await user(values.userId);
      await insert("dispatch_patient", {
        id,
        user_id: values.userId,
        doctor_id: values.doctorId ?? null,
        office_id: values.officeId ?? null,
        sex: 1,
        suffix: values.suffix ?? "",
        status: values.status === undefined ? 1 : values.status,
        archived: false,
        suspended: false,
        updated_at: JOINED,
      });
    },
    course: (id, name = `course ${id}`) => insert("dispatch_course", { id, name }),
    instruction: (id, patientId, values = {}) =>
      insert("dispatch_instruction", {
        id,
        patient_id: patientId,
        course_id: values.courseId ?? null,
        status: values.status ?? 1,
        deleted: false,
        updated_at: JOINED,
        suffix: "",
        cbct: false,
        notes: values.notes ?? null,
        price: values.price ?? null,
      }),
    payment: (id, values = {}) =>
      insert("dispatch_payment", {
        id,
        instruction_id: values.instructionId ?? null,
        doctor_id: values.doctorId ?? null,
        office_id: values.officeId ?? null,
        total_price: values.total ?? "100.00",
        subtotal_price: values.total ?? "100.00",
        paid_price: "0",
        additional_price: "0",
        tax_rate: "0.1025",
        tax_value: "0",
        used_credit: "0",
        paid: values.paid ?? false,
        canceled: false,
        free: false,
        netsuite: false,
        installments: "",
      }),
    operation: (id, values = {}) =>
      insert("dispatch_operation", {
        id,
        payment_id: values.paymentId ?? null,
        type: values.type === undefined ? 1 : values.type,
        price: values.price ?? "10.00",
      }),
  };
}
