import type { Access, Catalogue, Clinical } from "./small-rows.ts";

/** The source rows that are kept in memory: all but the large tables, whose rows are made while they are read. */
export interface Clinic extends Core, Catalogue, Access, Clinical {}

/** People, orders and money, which everything else refers to. */
export interface Core {
  readonly scale: number;
  readonly groups: readonly { id: number; name: string }[];
  readonly courses: readonly { id: number; name: string; type: number | null; customization: string | null }[];
  readonly offices: readonly Office[];
  readonly users: readonly User[];
  readonly userGroups: readonly Membership[];
  readonly doctorSettings: readonly DoctorSetting[];
  readonly userSettings: readonly { id: number; user: number }[];
  readonly officeDoctors: readonly OfficeDoctor[];
  readonly patients: readonly Patient[];
  readonly jaws: readonly Jaw[];
  readonly merchandise: readonly { id: number; course: number | null }[];
  readonly instructions: readonly Instruction[];
  readonly payments: readonly Payment[];
  readonly operations: readonly Operation[];
}

export interface Office {
  id: number;
  name: string;
  address: string | null;
  apt: string | null;
  city: string | null;
  state: string | null;
  zip: string | null;
  country: string | null;
  phone: string | null;
  taxRate: string | null;
  valid: boolean;
  square: string | null;
  emails: boolean;
}
export interface User {
  id: number;
  username: string;
  first: string;
  last: string;
  email: string;
  superuser: boolean;
  staff: boolean;
  active: boolean;
  joined: string;
  lastLogin: string | null;
}
export interface Membership {
  id: number;
  user: number;
  group: number;
}
export interface OfficeDoctor {
  id: number;
  office: number;
  user: number;
}
export interface DoctorSetting {
  id: number;
  user: number;
  preferences: string | null;
  square: string | null;
  promised: boolean | null;
  credit: string | null;
  tierFinish: string | null;
  tierType: string | null;
  installments: number | null;
  baa: string | null;
  eula: string | null;
  company: boolean | null;
}
export interface Patient {
  id: number;
  user: number;
  doctor: number | null;
  office: number | null;
  birthdate: string | null;
  sex: number | null;
  suffix: string;
  status: number | null;
  archived: boolean;
  suspended: boolean;
  schemes: string | null;
  submitted: string | null;
  updated: string | null;
}
export interface Instruction {
  id: number;
  patient: number;
  course: number | null;
  status: number;
  deleted: boolean;
  submitted: string | null;
  updated: string;
  suffix: string;
  notes: string | null;
  complaint: string | null;
  objective: string | null;
  exports: string | null;
  model: number | null;
  scanner: number | null;
  scannerNotes: string | null;
  cbct: boolean;
  comprehensive: boolean | null;
  acceptExtraction: boolean | null;
  conditions: string | null;
  price: string | null;
  upperJaw: number | null;
  lowerJaw: number | null;
}
export interface Payment {
  id: number;
  made: string | null;
  instruction: number | null;
  order: number | null;
  doctor: number | null;
  office: number | null;
  total: string;
  subtotal: string;
  paidPrice: string;
  additional: string;
  custom: string | null;
  taxRate: string;
  tax: string;
  credit: string;
  paid: boolean;
  canceled: boolean;
  free: boolean;
  netsuite: boolean;
  installments: string;
}
export interface Operation {
  id: number;
  payment: number | null;
  type: number | null;
  made: string | null;
  price: string | null;
  sqOrder: string | null;
  sqPayment: string | null;
  sqRefund: string | null;
  brand: string | null;
  bin: string | null;
  last: string | null;
  officeCard: boolean | null;
  attempts: number | null;
}
export interface Jaw {
  id: number;
  bond: string;
  extract: string;
  reason: number | null;
  product: number | null;
  labial: boolean;
}
