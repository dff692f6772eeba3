import type { Recomputed } from "./recompute.ts";

const COUNTRY = (column: string) =>
  `case ${column} when 'Schweiz' then 'CH' when 'Deutschland' then 'DE' when 'Österreich' then 'AT' when 'France' then 'FR' when 'Canada' then 'CA' end`;

/** The music shop of examples/music-shop, from its two schemas alone. */
export const musicShop: readonly Recomputed[] = [
  {
    entity: "artists",
    source: { from: `"Artist" a`, id: `a."ArtistId"` },
    target: { table: "Artists", from: `"Artists" t`, id: `t."LegacyArtistId"` },
    columns: { Name: [`a."Name"`] },
    generated: ["Search Name"],
    application: ["biography"],
  },
  {
    entity: "albums",
    source: { from: `"Album" b`, id: `b."AlbumId"` },
    target: {
      table: "Albums",
      from: `"Albums" t left join "Artists" a on a.id = t."ArtistId"`,
      id: `t."LegacyAlbumId"`,
    },
    columns: { Title: [`b."Title"`], ArtistId: [`b."ArtistId"`, `a."LegacyArtistId"`] },
  },
  {
    entity: "genres",
    source: { from: `"Genre" g`, id: `g."GenreId"` },
    target: { from: "genres t", id: "t.legacy_genre_id" },
    columns: { name: [`case when g."Name" ~* '^\\s*(null)?\\s*$' then null else g."Name" end`] },
  },
  {
    entity: "media types",
    source: { from: `"MediaType" m`, id: `m."MediaTypeId"` },
    target: { table: "Media Types", from: `"Media Types" t`, id: "t.legacy_media_type_id" },
    columns: {
      Name: [`m."Name"`],
      kind: [
        `case when m."Name" ilike '%video%' then 'Video' when m."Name" ilike 'protected%' then 'protected audio' else 'audio file' end`,
      ],
    },
  },
  {
    entity: "tracks",
    source: { from: `"Track" x`, id: `x."TrackId"` },
    target: {
      table: "Tracks",
      from: `"Tracks" t left join "Albums" b on b.id = t."AlbumId" left join "Media Types" m on m.id = t."MediaTypeId"
             left join genres g on g.id = t."GenreId"`,
      id: `t."LegacyTrackId"`,
    },
    columns: {
      Name: [`x."Name"`],
      AlbumId: [`x."AlbumId"`, `b."LegacyAlbumId"`],
      MediaTypeId: [`x."MediaTypeId"`, "m.legacy_media_type_id"],
      GenreId: [`x."GenreId"`, "g.legacy_genre_id"],
      Composer: [`x."Composer"`],
      Milliseconds: [`x."Milliseconds"`],
      Bytes: [`x."Bytes"`],
      UnitPrice: [`x."UnitPrice"`],
    },
    generated: ["Duration"],
  },
  {
    entity: "playlists",
    source: { from: `"Playlist" p`, id: `p."PlaylistId"` },
    target: { from: "playlists t", id: "t.legacy_playlist_id" },
    columns: { name: [`p."Name"`] },
  },
  {
    entity: "Playlist Tracks",
    source: { from: `"PlaylistTrack" l`, id: `l."PlaylistTrackId"` },
    target: {
      from: `"Playlist Tracks" t left join playlists p on p.id = t.playlist_id left join "Tracks" x on x.id = t.track_id`,
      id: `t."Legacy Playlist Track Id"`,
    },
    columns: {
      playlist_id: [`l."PlaylistId"`, "p.legacy_playlist_id"],
      track_id: [`l."TrackId"`, `x."LegacyTrackId"`],
    },
  },
  {
    entity: "employees",
    source: { from: `"Employee" e`, id: `e."EmployeeId"` },
    target: { from: "employees t left join employees b on b.id = t.reports_to", id: "t.legacy_employee_id" },
    columns: {
      last_name: [`e."LastName"`],
      first_name: [`e."FirstName"`],
      level: [
        `case when lower(e."Title") = 'general manager' then 'general manager' when e."Title" ilike '%manager%' then 'manager' else 'staff' end`,
      ],
      title: [`e."Title"`],
      reports_to: [`e."ReportsTo"`, "b.legacy_employee_id"],
      birth_date: [`e."BirthDate"::date`],
      hired_at: [`e."HireDate" at time zone 'America/Edmonton'`],
      address: [
        `jsonb_build_object('street', e."Address", 'city', e."City", 'state', e."State", 'country', e."Country", 'postal code', e."PostalCode")`,
      ],
      phone: [`e."Phone"`],
      fax: [`e."Fax"`],
      email: [`e."Email"`],
    },
  },
  {
    entity: "customers",
    source: { from: `"Customer" c`, id: `c."CustomerId"` },
    target: { from: "customers t left join employees e on e.id = t.support_rep_id", id: "t.legacy_customer_id" },
    columns: {
      FirstName: [`c."FirstName"`],
      LastName: [`c."LastName"`],
      company: [`case when c."Company" ~* '^\\s*(null)?\\s*$' then null else c."Company" end`],
      street: [`c."Address"`],
      city: [`c."City"`],
      state: [`c."State"`],
      country: [COUNTRY(`c."Country"`)],
      postal_code: [`c."PostalCode"`],
      phone: [`c."Phone"`],
      fax: [`c."Fax"`],
      email: [`c."Email"`],
      support_rep_id: [`c."SupportRepId"`, "e.legacy_employee_id"],
    },
    generated: ["Full Name"],
    application: ["newsletter"],
  },
  {
    entity: "invoices",
    source: { from: `"Invoice" i`, id: `i."InvoiceId"` },
    target: {
      table: "Invoices",
      from: `"Invoices" t left join customers c on c.id = t."CustomerId"`,
      id: `t."LegacyInvoiceId"`,
    },
    columns: {
      CustomerId: [`i."CustomerId"`, "c.legacy_customer_id"],
      InvoiceDate: [`i."InvoiceDate" at time zone 'America/Edmonton'`],
      "Billing Address": [
        `jsonb_build_object('street', i."BillingAddress", 'city', i."BillingCity", 'state', i."BillingState", 'postal code', i."BillingPostalCode")`,
      ],
      BillingCountry: [COUNTRY(`i."BillingCountry"`)],
      Currency: [`case i."BillingCountry" when 'Schweiz' then 'CHF' when 'Canada' then 'CAD' else 'EUR' end`],
      Total: [`i."Total"`],
    },
    application: ["Lines Total"],
  },
  {
    entity: "invoice lines",
    source: { from: `"InvoiceLine" l`, id: `l."InvoiceLineId"` },
    target: {
      table: "invoice_lines",
      from: `invoice_lines t left join "Invoices" i on i.id = t.invoice_id left join "Tracks" x on x.id = t.track_id`,
      id: "t.legacy_invoice_line_id",
    },
    columns: {
      invoice_id: [`l."InvoiceId"`, `i."LegacyInvoiceId"`],
      track_id: [`l."TrackId"`, `x."LegacyTrackId"`],
      unit_price: [`l."UnitPrice"`],
      quantity: [`l."Quantity"`],
    },
    generated: ["amount"],
  },
];
