import { doctorUsers, members, profileTypes } from "../membership.ts";
import type { Clinic, OfficeDoctor, User } from "../rows.ts";
import { doctorKinds, officeKinds, profileKinds } from "./golden-kinds.ts";
import type { Ledger } from "./ledger.ts";
import { unknownSex } from "./patients.ts";

const id = (row: { readonly id: number }) => row.id;

/** Places, and everybody with an account. */
export function judgePeople(ledger: Ledger, clinic: Clinic): void {
  const doctors = doctorUsers(clinic);
  const types = profileTypes(clinic, doctors);
  const patientOf = new Map(clinic.patients.map((patient) => [patient.user, patient]));
  const settings = new Map(clinic.doctorSettings.map((row) => [row.user, row]));
  const technicians = members(clinic, "Technician");
  ledger.judgeAll("offices", clinic.offices, { id, golden: officeKinds() });
  ledger.judgeAll<User>("profiles", clinic.users, {
    id,
    trouble: (user) => {
      if (!types.has(user.id)) return ["profile_type", "unknown_code"];
      const patient = patientOf.get(user.id);
      return patient && unknownSex(patient) ? ["gender", "unknown_code"] : null;
    },
    golden: profileKinds(clinic),
  });
  const doctorRows = clinic.users.filter((user) => doctors.has(user.id));
  ledger.judgeAll<User>("doctors", doctorRows, {
    id,
    parents: [["profile_id", "profiles", id]],
    amounts: { credit: (user) => settings.get(user.id)?.credit ?? null },
    golden: doctorKinds(clinic),
  });
  const technicianRows = clinic.users.filter((user) => technicians.has(user.id));
  ledger.judgeAll<User>("technicians", technicianRows, {
    id,
    parents: [["profile_id", "profiles", id]],
    golden: [
      [(user) => !user.active, () => ({ status: "inactive" })],
      [(user) => user.active, (user) => ({ status: "active", employee_id: user.username })],
      [(user) => patientOf.has(user.id), (user) => ({ employee_id: user.username })],
      [(user) => types.get(user.id) === "master", (user) => ({ employee_id: user.username })],
    ],
  });
  ledger.judgeAll<OfficeDoctor>("doctor_offices", clinic.officeDoctors, {
    id,
    parents: [
      ["doctor_id", "doctors", (row) => row.user],
      ["office_id", "offices", (row) => row.office],
    ],
    golden: [[() => true, () => ({ is_primary: null })]],
  });
}
