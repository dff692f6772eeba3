import type { ContentTypes } from "./content-types.ts";
import type { Held } from "./held.ts";
import type { Clinic } from "./rows.ts";

/** What the makers of the large tables draw from. */
export interface Surroundings {
  readonly clinic: Clinic;
  readonly types: ContentTypes;
  readonly held: Held;
  readonly counts: LargeCounts;
}

/** Rows of the large tables that others refer to, and of those that nothing refers to. */
export interface LargeCounts {
  readonly projects: number;
  readonly brackets: number;
  readonly plans: number;
  readonly records: number;
  readonly files: number;
  readonly comments: number;
  readonly notifications: number;
  readonly tasks: number;
  readonly actions: number;
}

export interface Project {
  id: number;
  uid: string;
  created: string;
  name: string | null;
  size: number | null;
  public: boolean;
  type: number;
  status: number;
  creator: number | null;
}
export interface Bracket {
  id: number;
  name: string | null;
  project: number | null;
  type: string | null;
}
export interface Plan {
  id: number;
  instruction: number;
  project: number;
  notes: string | null;
  number: number | null;
  name: string;
  original: boolean;
}
export interface LegacyRecord {
  id: number;
  targetType: number | null;
  target: number;
  type: number;
  created: string;
  text: string;
  author: number | null;
  group: number | null;
  public: boolean | null;
}
export interface File {
  id: number;
  uid: string;
  name: string | null;
  ext: string | null;
  size: number;
  type: number;
  status: number;
  instruction: number | null;
  record: number | null;
  product: number | null;
  description: string | null;
  parameters: string;
  created: string;
}
export interface Comment {
  id: number;
  created: string;
  text: string | null;
  author: number | null;
  plan: number;
}
export interface Notification {
  id: number;
  created: string;
  sender: string | null;
  template: string | null;
  context: string | null;
  read: boolean;
  item: number | null;
  itemType: number | null;
  recipient: number | null;
  sent: boolean;
  send: boolean;
}
export interface Task {
  id: number;
  template: number;
  text: string | null;
  checked: boolean;
  done: string | null;
  actor: number | null;
  instruction: number | null;
  plan: number | null;
  order: number | null;
  file: number | null;
  jaw: number;
}
export interface Action {
  id: number;
  action: string;
  date: string;
  item: number | null;
  itemType: number | null;
  owner: number | null;
  ownerType: number | null;
  data: string | null;
  user: number | null;
}
