import type { Clinic } from "./rows.ts";
import { table, type TableRows } from "./table.ts";

const FAKE_HASH = "pbkdf2_sha256$0$fake$this-is-not-a-password";

/** Groups, users, offices, patients, orders, payments and what links them. */
export function clinicTables(clinic: Clinic): TableRows[] {
  return [...peopleTables(clinic), ...orderTables(clinic), ...moneyTables(clinic)];
}

function peopleTables(clinic: Clinic): TableRows[] {
  return [
    table("auth_group", "id name", clinic.groups, (g) => [g.id, g.name]),
    table(
      "auth_user",
      "id username first_name last_name email password is_superuser is_staff is_active date_joined last_login",
      clinic.users,
      (u) => [u.id, u.username, u.first, u.last, u.email, FAKE_HASH, u.superuser, u.staff, u.active, u.joined, u.lastLogin],
    ),
    table("auth_user_groups", "id user_id group_id", clinic.userGroups, (m) => [m.id, m.user, m.group]),
    table(
      "dispatch_office",
      "id name address apt city state zip country phone tax_rate valid sq_customer_id emails",
      clinic.offices,
      (o) => [
        ...[o.id, o.name, o.address, o.apt, o.city, o.state, o.zip, o.country, o.phone],
        ...[o.taxRate, o.valid, o.square, o.emails],
      ],
    ),
    table("dispatch_office_doctors", "id office_id user_id", clinic.officeDoctors, (d) => [d.id, d.office, d.user]),
    table(
      "dispatch_doctorsetting",
      "id user_id clinical_preferences sq_customer_id promised_payment credit tier_finish tier_type installment_payments " +
        "baa_agreed_at eula_agreed_at company_account",
      clinic.doctorSettings,
      (s) => [
        ...[s.id, s.user, s.preferences, s.square, s.promised, s.credit, s.tierFinish, s.tierType, s.installments],
        ...[s.baa, s.eula, s.company],
      ],
    ),
    table("dispatch_usersetting", "id user_id", clinic.userSettings, (s) => [s.id, s.user]),
    table(
      "dispatch_patient",
      "id user_id doctor_id office_id birthdate sex suffix status archived suspended schemes submitted_at updated_at",
      clinic.patients,
      (p) => [
        ...[p.id, p.user, p.doctor, p.office, p.birthdate, p.sex, p.suffix, p.status, p.archived, p.suspended],
        ...[p.schemes, p.submitted, p.updated],
      ],
    ),
  ];
}

function orderTables(clinic: Clinic): TableRows[] {
  return [
    table("dispatch_course", "id name type customization", clinic.courses, (c) => [c.id, c.name, c.type, c.customization]),
    table("dispatch_order", "id course_id", clinic.merchandise, (o) => [o.id, o.course]),
    table(
      "dispatch_instruction",
      "id patient_id course_id status deleted submitted_at updated_at suffix notes complaint objective exports price " +
        "upper_jaw_id lower_jaw_id model scanner scanner_notes cbct comprehensive accept_extraction conditions",
      clinic.instructions,
      (i) => [
        ...[i.id, i.patient, i.course, i.status, i.deleted, i.submitted, i.updated, i.suffix, i.notes, i.complaint],
        ...[i.objective, i.exports, i.price, i.upperJaw, i.lowerJaw, i.model, i.scanner, i.scannerNotes, i.cbct, i.comprehensive],
        ...[i.acceptExtraction, i.conditions],
      ],
    ),
  ];
}

function moneyTables(clinic: Clinic): TableRows[] {
  return [
    table(
      "dispatch_payment",
      "id made_at instruction_id order_id doctor_id office_id total_price subtotal_price paid_price additional_price " +
        "custom_price tax_rate tax_value used_credit paid canceled free netsuite installments",
      clinic.payments,
      (p) => [
        ...[p.id, p.made, p.instruction, p.order, p.doctor, p.office, p.total, p.subtotal, p.paidPrice, p.additional],
        ...[p.custom, p.taxRate, p.tax, p.credit, p.paid, p.canceled, p.free, p.netsuite, p.installments],
      ],
    ),
    table(
      "dispatch_operation",
      "id payment_id type made_at price sq_order_id sq_payment_id sq_refund_id card_brand card_bin card_last office_card attempts",
      clinic.operations,
      (o) => [
        ...[o.id, o.payment, o.type, o.made, o.price, o.sqOrder, o.sqPayment, o.sqRefund, o.brand, o.bin, o.last],
        ...[o.officeCard, o.attempts],
      ],
    ),
  ];
}
