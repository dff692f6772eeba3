/** What is sold. */
export interface Catalogue {
  readonly categories: readonly Category[];
  readonly products: readonly Product[];
  readonly offers: readonly Offer[];
  readonly discounts: readonly Discount[];
  readonly purchases: readonly Purchase[];
  readonly wares: readonly { id: number }[];
  readonly storages: readonly { id: number }[];
}

/** Who may do what, and how work is described. */
export interface Access {
  readonly roles: readonly Role[];
  readonly permissions: readonly Permission[];
  readonly rolePermissions: readonly Link[];
  readonly templates: readonly Template[];
  readonly editRoles: readonly Link[];
  readonly viewRoles: readonly Link[];
  readonly viewGroups: readonly Link[];
  readonly templateProducts: readonly Link[];
  readonly predecessors: readonly Link[];
}

/** What hangs on orders and doctors. */
export interface Clinical {
  readonly states: readonly State[];
  readonly notes: readonly Note[];
}

export interface Category {
  id: number;
  name: string;
  parent: number | null;
}
export interface Product {
  id: number;
  name: string;
  description: string | null;
  free: boolean;
  deleted: boolean;
  customization: string | null;
  type: number | null;
  substitute: boolean;
  course: number;
}
export interface Offer {
  id: number;
  both: string | null;
  upper: string | null;
  lower: string | null;
  doctor: number | null;
  product: number | null;
}
export interface Discount {
  id: number;
  percent: number;
  reason: string | null;
  count: number | null;
  start: string | null;
  finish: string | null;
  total: boolean;
  used: number | null;
  offer: number;
}
export interface Purchase {
  id: number;
  quantity: number;
  price: string;
  order: number;
  product: number;
}
export interface Role {
  id: number;
  name: string;
  abbrev: string | null;
  type: number | null;
  order: number | null;
  user: number | null;
  group: number | null;
}
export interface Permission {
  id: number;
  name: string;
  codename: string;
  contentType: number | null;
}
/** A row that does nothing but join two others; either end may be missing. */
export interface Link {
  id: number;
  from: number | null;
  to: number | null;
}
export interface Template {
  id: number;
  taskName: string | null;
  actionName: string | null;
  textName: string | null;
  function: string | null;
  status: number | null;
  duration: number | null;
  category: number | null;
  predefined: boolean | null;
  readOnly: boolean | null;
  extensions: string | null;
  alerts: string | null;
  separate: boolean | null;
}
export interface State {
  id: number;
  status: number;
  on: boolean;
  changed: string;
  actor: number | null;
  instruction: number;
}
export interface Note {
  id: number;
  created: string;
  text: string | null;
  author: number | null;
  doctor: number | null;
}
