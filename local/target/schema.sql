-- The fixture target: the application tables of a Supabase project that the sync fills.
-- They belong to the application, never to migrations/: clean (a unique legacy key on every table,
-- true foreign keys, enums, row level security on, an updated_at trigger), so that what is wrong in
-- a synced row can only come from the sync.

create type public.profile_type_enum as enum
  ('patient', 'doctor', 'technician', 'master', 'sales_person', 'agent', 'client');
create type public.gender as enum ('male', 'female', 'other', 'unknown');
create type public.doctor_status as enum ('active', 'inactive');
create type public.patient_status_type as enum
  ('active', 'consultation', 'treatment_plan', 'in_treatment', 'retention', 'completed',
   'on_hold', 'cancelled', 'transferred', 'archived', 'prospect');
create type public.course_type as enum
  ('main', 'refinement', 'any', 'replacement', 'invoice', 'merchandise');
create type public.order_status as enum
  ('no_product', 'submitted', 'approved', 'in_production', 'shipped', 'add_plan', 'on_hold', 'cancelled');
create type public.payment_status_enum as enum
  ('pending', 'processing', 'completed', 'failed', 'refunded', 'cancelled', 'other');
create type public.operation_type as enum ('payment', 'refund');

create function public.touch_updated_at() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := now();
  return new;
end
$$;

create table public.offices (
  id                  uuid primary key default gen_random_uuid(),
  legacy_office_id    bigint not null unique,
  name                text not null,
  address             text,
  apartment           text,
  city                text,
  state               text,
  zip_code            text,
  country             text,
  phone               text,
  tax_rate            numeric(8,4),
  square_customer_id  text,
  is_active           boolean not null,
  email_notifications boolean not null,
  notes               text, -- written by people in the new application only
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now()
);

create table public.profiles (
  id                uuid primary key default gen_random_uuid(),
  legacy_user_id    bigint not null unique,
  legacy_patient_id bigint unique,
  profile_type      public.profile_type_enum not null,
  first_name        text,
  last_name         text,
  email             text,
  username          text not null,
  gender            public.gender,
  date_of_birth     date,
  patient_suffix    text,
  is_active         boolean not null,
  archived          boolean not null,
  suspended         boolean not null,
  joined_at         timestamptz not null,
  last_login_at     timestamptz,
  bio               text, -- written by people in the new application only
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

create table public.doctors (
  id                   uuid primary key default gen_random_uuid(),
  legacy_user_id       bigint not null unique,
  profile_id           uuid not null references public.profiles (id),
  doctor_number        text not null,
  status               public.doctor_status not null,
  clinical_preferences jsonb,
  square_customer_id   text,
  promised_payment     boolean,
  credit               numeric(10,2),
  tier_type            text,
  tier_finish          text,
  installment_payments integer,
  company_account      boolean,
  baa_agreed_at        timestamptz,
  eula_agreed_at       timestamptz,
  joined_practice_at   timestamptz not null,
  npi_number           text, -- written by people in the new application only
  created_at           timestamptz not null default now(),
  updated_at           timestamptz not null default now()
);

create table public.patients (
  id                 uuid primary key default gen_random_uuid(),
  legacy_patient_id  bigint not null unique,
  profile_id         uuid not null references public.profiles (id),
  primary_doctor_id  uuid references public.doctors (id),
  assigned_office_id uuid references public.offices (id),
  patient_number     text not null unique,
  suffix             text,
  sex                public.gender,
  date_of_birth      date check (date_of_birth >= date '1900-01-01'),
  status             public.patient_status_type,
  archived           boolean not null,
  suspended          boolean not null,
  schemes            jsonb,
  enrolled_at        timestamptz,
  source_updated_at  timestamptz,
  medical_notes      text, -- written by people in the new application only
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.orders (
  id                    uuid primary key default gen_random_uuid(),
  legacy_instruction_id bigint not null unique,
  order_number          text not null,
  patient_id            uuid not null references public.patients (id),
  doctor_id             uuid references public.doctors (id),
  office_id             uuid references public.offices (id),
  course_type           public.course_type,
  status                public.order_status not null,
  amount                numeric(10,2),
  suffix                text,
  notes                 text,
  complaint             text,
  objective             text,
  exports               jsonb,
  deleted               boolean not null,
  submitted_at          timestamptz,
  source_updated_at     timestamptz not null,
  created_at            timestamptz not null default now(),
  updated_at            timestamptz not null default now()
);

create table public.payments (
  id                uuid primary key default gen_random_uuid(),
  legacy_payment_id bigint not null unique,
  order_id          uuid references public.orders (id),
  doctor_id         uuid references public.doctors (id),
  office_id         uuid references public.offices (id),
  legacy_order_id   bigint, -- dispatch_order.id: a merchandise order, which has no table here
  amount            numeric(10,2) not null,
  subtotal_amount   numeric(10,2) not null,
  paid_amount       numeric(10,2) not null,
  additional_amount numeric(10,2) not null,
  custom_amount     numeric(10,2),
  tax_rate          numeric(8,4) not null,
  tax_amount        numeric(10,2) not null,
  used_credit       numeric(10,2) not null,
  payment_status    public.payment_status_enum not null,
  is_free           boolean not null,
  is_canceled       boolean not null,
  netsuite          boolean not null,
  installments      jsonb,
  processed_at      timestamptz,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

create table public.operations (
  id                  uuid primary key default gen_random_uuid(),
  legacy_operation_id bigint not null unique,
  payment_id          uuid references public.payments (id),
  operation_type      public.operation_type not null,
  amount              numeric(10,2) check (amount >= 0),
  made_at             timestamptz,
  square_order_id     text,
  square_payment_id   text,
  square_refund_id    text,
  card_brand          text,
  card_last           text,
  office_card         boolean,
  attempts            integer,
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now()
);

create index on public.doctors (profile_id);
create index on public.patients (profile_id);
create index on public.patients (primary_doctor_id);
create index on public.patients (assigned_office_id);
create index on public.orders (patient_id);
create index on public.orders (doctor_id);
create index on public.orders (office_id);
create index on public.payments (order_id);
create index on public.payments (doctor_id);
create index on public.payments (office_id);
create index on public.operations (payment_id);

do $$
declare
  t text;
begin
  foreach t in array array['offices', 'profiles', 'doctors', 'patients', 'orders', 'payments', 'operations'] loop
    execute format('alter table public.%I enable row level security', t);
    -- The application's own rule: signed-in staff read, nobody writes through the Data API.
    execute format(
      'create policy staff_read on public.%I for select to authenticated
         using ((select auth.jwt()) -> ''app_metadata'' ->> ''role'' = ''staff'')', t);
    execute format('grant select on public.%I to authenticated', t);
    execute format(
      'create trigger touch_updated_at before update on public.%I
         for each row execute function public.touch_updated_at()', t);
  end loop;
end
$$;
