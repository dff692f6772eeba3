-- Orders, payments, and what hangs on them.

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
  metadata              jsonb,
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
  metadata            jsonb, -- where the record comes from, and every Square field
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now()
);

-- A line of a merchandise order, which has no table here.
create table public.purchases (
  id                 uuid primary key default gen_random_uuid(),
  legacy_purchase_id bigint not null unique,
  product_id         uuid not null references public.products (id),
  legacy_order_id    bigint not null, -- dispatch_order.id
  quantity           integer not null,
  unit_price         numeric(10,2) not null,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now()
);

create table public.order_cases (
  id                    uuid primary key default gen_random_uuid(),
  legacy_instruction_id bigint not null unique,
  order_id              uuid not null references public.orders (id),
  case_id               uuid not null references public.cases (id),
  created_at            timestamptz not null default now(),
  updated_at            timestamptz not null default now()
);

create table public.jaws (
  id            uuid primary key default gen_random_uuid(),
  legacy_jaw_id bigint not null unique,
  order_id      uuid references public.orders (id),
  product_id    uuid references public.products (id),
  jaw_type      public.jaw_type,
  labial        boolean not null,
  bond_teeth    text not null,
  extract_teeth text not null,
  reason_code   integer,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now()
);

create table public.order_states (
  id              uuid primary key default gen_random_uuid(),
  legacy_state_id bigint not null unique,
  order_id        uuid not null references public.orders (id),
  changed_by      uuid references public.profiles (id),
  status_code     integer not null,
  is_active       boolean not null,
  changed_at      timestamptz not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now()
);

create table public.case_states (
  id              uuid primary key default gen_random_uuid(),
  legacy_state_id bigint not null unique,
  case_id         uuid not null references public.cases (id),
  changed_by      uuid references public.profiles (id),
  current_state   public.case_state_type not null,
  is_active       boolean not null,
  changed_at      timestamptz not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now()
);

create table public.projects (
  id                uuid primary key default gen_random_uuid(),
  legacy_project_id bigint not null unique,
  creator_id        uuid references public.profiles (id),
  name              text,
  project_type      public.project_type not null,
  project_status    public.project_status not null,
  file_uid          text not null,
  file_size_bytes   bigint,
  is_public         boolean not null,
  source_created_at timestamptz not null,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

create table public.brackets (
  id                uuid primary key default gen_random_uuid(),
  legacy_bracket_id bigint not null unique,
  project_id        uuid references public.projects (id),
  name              text,
  bracket_type      text,
  material          text, -- written by people in the new application only
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

create table public.treatment_plans (
  id             uuid primary key default gen_random_uuid(),
  legacy_plan_id bigint not null unique,
  project_id     uuid not null references public.projects (id),
  order_id       uuid not null references public.orders (id),
  plan_number    integer,
  plan_name      text,
  plan_notes     text,
  is_original    boolean not null,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table public.files (
  id              uuid primary key default gen_random_uuid(),
  legacy_file_id  bigint not null unique,
  order_id        uuid references public.orders (id),
  product_id      uuid references public.products (id),
  file_uid        text not null,
  filename        text,
  extension       text,
  file_size_bytes bigint not null,
  type_code       integer not null,
  status_code     integer not null,
  description     text,
  parameters      jsonb,
  uploaded_at     timestamptz not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now()
);

create table public.order_files (
  id             uuid primary key default gen_random_uuid(),
  legacy_file_id bigint not null unique,
  order_id       uuid not null references public.orders (id),
  file_id        uuid not null references public.files (id),
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table public.case_files (
  id             uuid primary key default gen_random_uuid(),
  legacy_file_id bigint not null unique,
  case_id        uuid not null references public.cases (id),
  file_id        uuid not null references public.files (id),
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table public.tasks (
  id              uuid primary key default gen_random_uuid(),
  legacy_task_id  bigint not null unique,
  template_id     uuid not null references public.templates (id),
  order_id        uuid references public.orders (id),
  plan_id         uuid references public.treatment_plans (id),
  file_id         uuid references public.files (id),
  assigned_to     uuid references public.profiles (id),
  legacy_order_id bigint, -- dispatch_order.id: a merchandise order, which has no table here
  description     text,
  checked         boolean not null,
  completed_at    timestamptz,
  jaw_code        integer not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now()
);
