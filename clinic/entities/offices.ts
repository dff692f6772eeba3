import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    offices: { source: "dispatch_office"; target: "offices" };
  }
}

/** `valid` is not a soft-delete flag: it is false for every office outside the USA. It travels as is_active. */
export const offices = defineEntity({
  name: "offices",
  target: { table: "offices", legacyKey: "legacy_office_id" },
  source: {
    table: "dispatch_office",
    key: "id",
    alias: "o",
    columns: {
      name: "o.name",
      address: "o.address",
      apt: "o.apt",
      city: "o.city",
      state: "o.state",
      zip: "o.zip",
      country: "o.country",
      phone: "o.phone",
      tax_rate: "o.tax_rate",
      sq_customer_id: "o.sq_customer_id",
      valid: "o.valid",
      emails: "o.emails",
    },
    ignored: {},
  },
  fields: (f) => ({
    name: f.copy("name"),
    address: f.copy("address"),
    apartment: f.copy("apt"),
    city: f.copy("city"),
    state: f.copy("state"),
    zip_code: f.copy("zip"),
    country: f.copy("country"),
    phone: f.copy("phone"),
    tax_rate: f.copy("tax_rate"),
    square_customer_id: f.copy("sq_customer_id"),
    is_active: f.copy("valid"),
    email_notifications: f.copy("emails"),
  }),
});
