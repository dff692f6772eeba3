-- What is sold, who may do what, and how work is described.

create table public.teams (
  id              uuid primary key default gen_random_uuid(),
  legacy_group_id bigint not null unique,
  name            text not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now()
);

create table public.roles (
  id             uuid primary key default gen_random_uuid(),
  legacy_role_id bigint not null unique,
  name           text not null,
  abbreviation   text,
  type_code      integer,
  display_order  integer,
  profile_id     uuid references public.profiles (id),
  team_id        uuid references public.teams (id),
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table public.role_permissions (
  id                        uuid primary key default gen_random_uuid(),
  legacy_role_permission_id bigint not null unique,
  role_id                   uuid not null references public.roles (id),
  permission                text not null,
  codename                  text not null,
  resource                  text, -- app_label.model
  created_at                timestamptz not null default now(),
  updated_at                timestamptz not null default now()
);

create table public.technician_roles (
  id             uuid primary key default gen_random_uuid(),
  legacy_role_id bigint not null unique,
  technician_id  uuid references public.technicians (id),
  role_name      text not null,
  abbreviation   text,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table public.categories (
  id                 uuid primary key default gen_random_uuid(),
  legacy_category_id bigint not null unique,
  name               text not null,
  parent_id          uuid references public.categories (id),
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.courses (
  id               uuid primary key default gen_random_uuid(),
  legacy_course_id bigint not null unique,
  name             text not null,
  type_code        integer,
  customization    jsonb,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now()
);

create table public.products (
  id                uuid primary key default gen_random_uuid(),
  legacy_product_id bigint not null unique,
  course_id         uuid not null references public.courses (id),
  name              text not null,
  description       text,
  type_code         integer,
  is_free           boolean not null,
  is_substitute     boolean not null,
  deleted           boolean not null,
  customization     jsonb,
  sku               text, -- written by people in the new application only
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

create table public.offers (
  id              uuid primary key default gen_random_uuid(),
  legacy_offer_id bigint not null unique,
  doctor_id       uuid references public.doctors (id),
  product_id      uuid references public.products (id),
  price_both      numeric(10,2),
  price_upper     numeric(10,2),
  price_lower     numeric(10,2),
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now()
);

create table public.discounts (
  id                 uuid primary key default gen_random_uuid(),
  legacy_discount_id bigint not null unique,
  offer_id           uuid not null references public.offers (id),
  percentage         integer not null check (percentage between 0 and 100),
  reason             text,
  max_uses           integer,
  current_uses       integer,
  valid_from         date,
  valid_until        date,
  applies_to_total   boolean not null,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.templates (
  id                 uuid primary key default gen_random_uuid(),
  legacy_template_id bigint not null unique,
  category_id        uuid references public.categories (id),
  name               text,
  task_name          text,
  action_name        text,
  text_name          text,
  function_name      text,
  status_code        integer,
  is_active          boolean,
  duration           integer, -- as written: whether these are minutes is not known
  predefined         boolean,
  read_only          boolean,
  separate           boolean,
  extensions         text,
  alerts             text,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.template_edit_roles (
  id                 uuid primary key default gen_random_uuid(),
  legacy_junction_id bigint not null unique,
  template_id        uuid references public.templates (id),
  role_id            uuid references public.roles (id),
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.template_view_roles (
  id                 uuid primary key default gen_random_uuid(),
  legacy_junction_id bigint not null unique,
  template_id        uuid references public.templates (id),
  role_id            uuid references public.roles (id),
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.template_view_groups (
  id                 uuid primary key default gen_random_uuid(),
  legacy_junction_id bigint not null unique,
  template_id        uuid references public.templates (id),
  team_id            uuid references public.teams (id),
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.template_products (
  id                 uuid primary key default gen_random_uuid(),
  legacy_junction_id bigint not null unique,
  template_id        uuid references public.templates (id),
  product_id         uuid references public.products (id),
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.template_predecessors (
  id                 uuid primary key default gen_random_uuid(),
  legacy_junction_id bigint not null unique,
  template_id        uuid references public.templates (id),
  predecessor_id     uuid references public.templates (id),
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.wares (
  id             uuid primary key default gen_random_uuid(),
  legacy_ware_id bigint not null unique,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table public.storages (
  id                uuid primary key default gen_random_uuid(),
  legacy_storage_id bigint not null unique,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);
