import type { Clinic, Patient } from "../rows.ts";
import { patientKinds } from "./golden-kinds.ts";
import type { Ledger } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;

/** A patient, the patient's doctor and office, and the patient's case: three records of one row. */
export function judgePatients(ledger: Ledger, clinic: Clinic): void {
  ledger.judgeAll<Patient>("patients", clinic.patients, {
    id,
    trouble: (patient) => {
      if (unknownSex(patient)) return ["sex", "unknown_code"];
      return patient.status === null || [1, 2, 4, 10].includes(patient.status) ? null : ["status", "unknown_code"];
    },
    parents: [
      ["profile_id", "profiles", (patient) => patient.user],
      ["primary_doctor_id", "doctors", (patient) => patient.doctor],
      ["assigned_office_id", "offices", (patient) => patient.office],
    ],
    check: (patient) => patient.birthdate === null || patient.birthdate >= "1900-01-01",
    golden: patientKinds(),
  });
  ledger.judgeAll<Patient>("patients_doctors_offices", clinic.patients, {
    id,
    predicate: { rule: "related@1", holds: (patient) => patient.doctor !== null || patient.office !== null },
    parents: [
      ["patient_id", "patients", id],
      ["doctor_id", "doctors", (patient) => patient.doctor],
      ["office_id", "offices", (patient) => patient.office],
    ],
    golden: [
      [(patient) => patient.doctor === null, () => ({ doctor_id: null })],
      [(patient) => patient.office === null, () => ({ office_id: null })],
    ],
  });
  ledger.judgeAll<Patient>("cases", clinic.patients, {
    id,
    parents: [
      ["patient_id", "patients", id],
      ["primary_doctor_id", "doctors", (patient) => patient.doctor],
      ["office_id", "offices", (patient) => patient.office],
    ],
    golden: [
      [(patient) => patient.suffix === "", (patient) => ({ case_number: `CASE-${patient.id}` })],
      [(patient) => patient.suffix !== "", (patient) => ({ case_number: `CASE-${patient.suffix}-${patient.id}` })],
      [(patient) => patient.archived && !patient.suspended, () => ({ deleted: "true" })],
      [(patient) => !patient.archived && patient.suspended, () => ({ deleted: "true" })],
      [(patient) => !patient.archived && !patient.suspended, () => ({ deleted: "false" })],
      [(patient) => patient.status === null, () => ({ status_code: null })],
      [(patient) => patient.status === 10, () => ({ status_code: "10" })],
      [(patient) => patient.doctor === null && patient.office === null, () => ({ primary_doctor_id: null, office_id: null })],
    ],
  });
}

export function unknownSex(patient: Patient): boolean {
  return patient.sex !== null && ![0, 1, 2].includes(patient.sex);
}
