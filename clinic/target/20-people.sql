-- Places and people.

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
  treatment_phase    public.treatment_phase,
  archived           boolean not null,
  suspended          boolean not null,
  schemes            jsonb,
  legacy_data        jsonb, -- where the record comes from
  enrolled_at        timestamptz,
  source_updated_at  timestamptz,
  medical_notes      text, -- written by people in the new application only
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.technicians (
  id             uuid primary key default gen_random_uuid(),
  legacy_user_id bigint not null unique,
  profile_id     uuid not null references public.profiles (id),
  employee_id    text not null unique,
  status         public.employment_status not null,
  hired_at       timestamptz,
  specialty      text, -- written by people in the new application only
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table public.doctor_offices (
  id                       uuid primary key default gen_random_uuid(),
  legacy_office_doctor_id  bigint not null unique,
  doctor_id                uuid not null references public.doctors (id),
  office_id                uuid not null references public.offices (id),
  is_primary               boolean, -- decided by people in the new application only
  created_at               timestamptz not null default now(),
  updated_at               timestamptz not null default now(),
  unique (doctor_id, office_id)
);

create table public.patients_doctors_offices (
  id                uuid primary key default gen_random_uuid(),
  legacy_patient_id bigint not null unique,
  patient_id        uuid not null references public.patients (id),
  doctor_id         uuid references public.doctors (id),
  office_id         uuid references public.offices (id),
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

-- One case per patient.
create table public.cases (
  id                uuid primary key default gen_random_uuid(),
  legacy_patient_id bigint not null unique,
  patient_id        uuid not null references public.patients (id),
  primary_doctor_id uuid references public.doctors (id),
  office_id         uuid references public.offices (id),
  case_number       text not null,
  status_code       integer,
  deleted           boolean not null,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);
