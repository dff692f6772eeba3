-- What people and the system said.

create table public.messages (
  id                   uuid primary key default gen_random_uuid(),
  legacy_record_id     bigint not null unique,
  sender_id            uuid references public.profiles (id),
  recipient_type       public.recipient_type not null,
  recipient_patient_id uuid references public.patients (id),
  recipient_profile_id uuid references public.profiles (id),
  team_id              uuid references public.teams (id),
  type_code            integer not null,
  content              text not null,
  is_public            boolean,
  sent_at              timestamptz not null,
  is_read              boolean, -- written by people in the new application only
  created_at           timestamptz not null default now(),
  updated_at           timestamptz not null default now(),
  check (num_nonnulls(recipient_patient_id, recipient_profile_id) = 1)
);

create table public.team_communications (
  id               uuid primary key default gen_random_uuid(),
  legacy_record_id bigint not null unique,
  team_id          uuid not null references public.teams (id),
  author_id        uuid references public.profiles (id),
  type_code        integer not null,
  body             text not null,
  is_public        boolean,
  sent_at          timestamptz not null,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now()
);

create table public.message_attachments (
  id             uuid primary key default gen_random_uuid(),
  legacy_file_id bigint not null unique,
  message_id     uuid not null references public.messages (id),
  file_id        uuid not null references public.files (id),
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table public.comments (
  id                uuid primary key default gen_random_uuid(),
  legacy_comment_id bigint not null unique,
  author_id         uuid references public.profiles (id),
  content           text,
  commented_at      timestamptz not null,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

create table public.treatment_discussions (
  id                uuid primary key default gen_random_uuid(),
  legacy_comment_id bigint not null unique,
  comment_id        uuid not null references public.comments (id),
  treatment_plan_id uuid not null references public.treatment_plans (id),
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

create table public.case_messages (
  id                uuid primary key default gen_random_uuid(),
  legacy_comment_id bigint not null unique,
  case_id           uuid not null references public.cases (id),
  sender_id         uuid references public.profiles (id),
  content           text,
  sent_at           timestamptz not null,
  is_urgent         boolean, -- written by people in the new application only
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
);

create table public.doctor_notes (
  id             uuid primary key default gen_random_uuid(),
  legacy_note_id bigint not null unique,
  doctor_id      uuid references public.doctors (id),
  author_id      uuid references public.profiles (id),
  content        text,
  noted_at       timestamptz not null,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table public.system_messages (
  id                     uuid primary key default gen_random_uuid(),
  legacy_notification_id bigint not null unique,
  recipient_id           uuid references public.profiles (id),
  order_id               uuid references public.orders (id),
  patient_id             uuid references public.patients (id),
  item_type              text, -- app_label.model of what the message is about
  legacy_item_id         bigint,
  sender                 text,
  message_code           text,
  message_data           jsonb,
  is_read                boolean not null,
  notified_at            timestamptz not null,
  created_at             timestamptz not null default now(),
  updated_at             timestamptz not null default now()
);

create table public.user_actions (
  id               uuid primary key default gen_random_uuid(),
  legacy_action_id bigint not null unique,
  user_id          uuid references public.profiles (id),
  action           text not null,
  acted_at         timestamptz not null,
  item_type        text, -- app_label.model
  legacy_item_id   bigint,
  owner_type       text, -- app_label.model
  legacy_owner_id  bigint,
  action_data      text,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now()
);
