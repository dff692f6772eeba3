-- The legacy source: a Django application ("dispatch") in the schema public, 53 dispatch_* tables and Django's own.
-- Integer ids, foreign keys checked at commit, almost no modification times, no record of deletes.

CREATE TABLE django_content_type (
  id        integer PRIMARY KEY,
  app_label varchar(100) NOT NULL,
  model     varchar(100) NOT NULL,
  UNIQUE (app_label, model)
);

CREATE TABLE auth_group (
  id   integer PRIMARY KEY,
  name varchar(150) NOT NULL UNIQUE
);

CREATE TABLE auth_user (
  id           integer PRIMARY KEY,
  username     varchar(150) NOT NULL UNIQUE,
  first_name   varchar(150) NOT NULL,
  last_name    varchar(150) NOT NULL,
  email        varchar(254) NOT NULL,
  password     varchar(128) NOT NULL,
  is_superuser boolean NOT NULL,
  is_staff     boolean NOT NULL,
  is_active    boolean NOT NULL,
  date_joined  timestamptz NOT NULL,
  last_login   timestamptz
);

CREATE TABLE auth_user_groups (
  id       integer PRIMARY KEY,
  user_id  integer NOT NULL REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  group_id integer NOT NULL REFERENCES auth_group(id) DEFERRABLE INITIALLY DEFERRED,
  UNIQUE (user_id, group_id)
);

CREATE TABLE auth_permission (
  id              integer PRIMARY KEY,
  name            varchar(255) NOT NULL,
  codename        varchar(100) NOT NULL,
  content_type_id integer REFERENCES django_content_type(id)
);

-- valid is no soft-delete flag: it is false for every office outside the USA.
CREATE TABLE dispatch_office (
  id             integer PRIMARY KEY,
  name           varchar(255) NOT NULL,
  address        varchar(255),
  apt            varchar(50),
  city           varchar(100),
  state          varchar(50),
  zip            varchar(20),
  country        varchar(100),
  phone          varchar(50),
  tax_rate       numeric(8,4),
  valid          boolean NOT NULL,
  sq_customer_id varchar(100),
  emails         boolean NOT NULL
);

CREATE TABLE dispatch_office_doctors (
  id        integer PRIMARY KEY,
  office_id integer NOT NULL REFERENCES dispatch_office(id) DEFERRABLE INITIALLY DEFERRED,
  user_id   integer NOT NULL REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  UNIQUE (office_id, user_id)
);

CREATE TABLE dispatch_doctorsetting (
  id                   integer PRIMARY KEY,
  user_id              integer NOT NULL UNIQUE REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  clinical_preferences text,
  sq_customer_id       varchar(100),
  promised_payment     boolean,
  credit               numeric(10,2),
  tier_finish          varchar(50),
  tier_type            varchar(50),
  installment_payments integer,
  baa_agreed_at        timestamptz,
  eula_agreed_at       timestamptz,
  company_account      boolean
);

CREATE TABLE dispatch_doctorsetting_masters (id integer PRIMARY KEY, doctorsetting_id integer, user_id integer);

CREATE TABLE dispatch_doctorsetting_sales   (id integer PRIMARY KEY, doctorsetting_id integer, user_id integer);

CREATE TABLE dispatch_usersetting (
  id      integer PRIMARY KEY,
  user_id integer NOT NULL REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED
);

-- The only modification times are here, in dispatch_instruction and in dispatch_globalsetting, and bulk updates
-- bypass them.
CREATE TABLE dispatch_patient (
  id           integer PRIMARY KEY,
  user_id      integer NOT NULL UNIQUE REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  doctor_id    integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  office_id    integer REFERENCES dispatch_office(id) DEFERRABLE INITIALLY DEFERRED,
  birthdate    date,
  sex          integer,
  suffix       varchar(10) NOT NULL,
  status       integer,
  archived     boolean NOT NULL,
  suspended    boolean NOT NULL,
  schemes      text,
  submitted_at timestamptz,
  updated_at   timestamptz
);

CREATE TABLE dispatch_agent (id integer PRIMARY KEY, user_id integer);

CREATE TABLE dispatch_client   (id integer PRIMARY KEY);

CREATE TABLE dispatch_client3d (id integer PRIMARY KEY);

CREATE TABLE dispatch_master   (id integer PRIMARY KEY);

CREATE TABLE dispatch_language (id integer PRIMARY KEY);

CREATE TABLE dispatch_link     (id integer PRIMARY KEY);

CREATE TABLE dispatch_reading  (id integer PRIMARY KEY);

CREATE TABLE dispatch_event    (id integer PRIMARY KEY);

CREATE TABLE dispatch_instance (id integer PRIMARY KEY);

CREATE TABLE dispatch_ware     (id integer PRIMARY KEY);

CREATE TABLE dispatch_storage  (id integer PRIMARY KEY);

CREATE TABLE dispatch_category (
  id        integer PRIMARY KEY,
  name      varchar(255) NOT NULL,
  parent_id integer REFERENCES dispatch_category(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_course (
  id            integer PRIMARY KEY,
  name          varchar(255) NOT NULL,
  type          integer,
  customization text
);

CREATE TABLE dispatch_product (
  id            integer PRIMARY KEY,
  name          varchar(255) NOT NULL,
  description   text,
  free          boolean NOT NULL,
  deleted       boolean NOT NULL,
  customization text,
  type          integer,
  substitute    boolean NOT NULL,
  course_id     integer NOT NULL REFERENCES dispatch_course(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_product_roles      (id integer PRIMARY KEY, product_id integer, role_id integer);

CREATE TABLE dispatch_product_successors (id integer PRIMARY KEY, from_product_id integer, to_product_id integer);

CREATE TABLE dispatch_offer (
  id          integer PRIMARY KEY,
  price_both  numeric(10,2),
  price_upper numeric(10,2),
  price_lower numeric(10,2),
  doctor_id   integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  product_id  integer REFERENCES dispatch_product(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_discount (
  id       integer PRIMARY KEY,
  percent  integer NOT NULL,
  reason   varchar(255),
  "count"  integer,
  start    date,
  finish   date,
  total    boolean NOT NULL,
  used     integer,
  offer_id integer NOT NULL REFERENCES dispatch_offer(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_project (
  id         integer PRIMARY KEY,
  uid        varchar(64) NOT NULL,
  created_at timestamptz NOT NULL,
  name       varchar(255),
  size       bigint,
  public     boolean NOT NULL,
  type       integer NOT NULL,
  status     integer NOT NULL,
  creator_id integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_bracket (
  id         integer PRIMARY KEY,
  name       varchar(255),
  project_id integer REFERENCES dispatch_project(id) DEFERRABLE INITIALLY DEFERRED,
  type       varchar(50)
);

CREATE TABLE dispatch_jaw (
  id            integer PRIMARY KEY,
  bond_teeth    varchar(16) NOT NULL,
  extract_teeth varchar(16) NOT NULL,
  reason        integer,
  product_id    integer REFERENCES dispatch_product(id) DEFERRABLE INITIALLY DEFERRED,
  labial        boolean NOT NULL
);

-- The real "order". Its doctor and office are those of its patient.
CREATE TABLE dispatch_instruction (
  id                integer PRIMARY KEY,
  patient_id        integer NOT NULL REFERENCES dispatch_patient(id) DEFERRABLE INITIALLY DEFERRED,
  course_id         integer REFERENCES dispatch_course(id) DEFERRABLE INITIALLY DEFERRED,
  status            integer NOT NULL,
  deleted           boolean NOT NULL,
  submitted_at      timestamptz,
  updated_at        timestamptz NOT NULL,
  suffix            varchar(10) NOT NULL,
  "order"           integer,
  model             integer,
  scanner           integer,
  scanner_notes     text,
  cbct              boolean NOT NULL,
  comprehensive     boolean,
  accept_extraction boolean,
  objective         text,
  conditions        text,
  notes             text,
  complaint         text,
  exports           text,
  price             numeric(10,2),
  upper_jaw_id      integer REFERENCES dispatch_jaw(id) DEFERRABLE INITIALLY DEFERRED,
  lower_jaw_id      integer REFERENCES dispatch_jaw(id) DEFERRABLE INITIALLY DEFERRED
);

-- A merchandise order, in an id space of its own.
CREATE TABLE dispatch_order (
  id        integer PRIMARY KEY,
  course_id integer
);

CREATE TABLE dispatch_plan (
  id             integer PRIMARY KEY,
  instruction_id integer NOT NULL REFERENCES dispatch_instruction(id) DEFERRABLE INITIALLY DEFERRED,
  project_id     integer NOT NULL REFERENCES dispatch_project(id) DEFERRABLE INITIALLY DEFERRED,
  notes          text,
  number         integer,
  name           varchar(100) NOT NULL,
  original       boolean NOT NULL
);

CREATE TABLE dispatch_state (
  id             integer PRIMARY KEY,
  status         integer NOT NULL,
  "on"           boolean NOT NULL,
  changed_at     timestamptz NOT NULL,
  actor_id       integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  instruction_id integer NOT NULL REFERENCES dispatch_instruction(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_payment (
  id               integer PRIMARY KEY,
  made_at          timestamptz,
  instruction_id   integer REFERENCES dispatch_instruction(id) DEFERRABLE INITIALLY DEFERRED,
  order_id         integer REFERENCES dispatch_order(id) DEFERRABLE INITIALLY DEFERRED,
  doctor_id        integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  office_id        integer REFERENCES dispatch_office(id) DEFERRABLE INITIALLY DEFERRED,
  total_price      numeric(10,2) NOT NULL,
  subtotal_price   numeric(10,2) NOT NULL,
  paid_price       numeric(10,2) NOT NULL,
  additional_price numeric(10,2) NOT NULL,
  custom_price     numeric(10,2),
  tax_rate         numeric(8,4) NOT NULL,
  tax_value        numeric(10,2) NOT NULL,
  used_credit      numeric(10,2) NOT NULL,
  paid             boolean NOT NULL,
  canceled         boolean NOT NULL,
  free             boolean NOT NULL,
  netsuite         boolean NOT NULL,
  installments     text NOT NULL
);

CREATE TABLE dispatch_operation (
  id            integer PRIMARY KEY,
  payment_id    integer REFERENCES dispatch_payment(id) DEFERRABLE INITIALLY DEFERRED,
  type          integer,
  made_at       timestamptz,
  price         numeric(10,2),
  sq_order_id   varchar(100),
  sq_payment_id varchar(100),
  sq_refund_id  varchar(100),
  card_brand    varchar(50),
  card_bin      varchar(10),
  card_last     varchar(4),
  office_card   boolean,
  attempts      integer
);

CREATE TABLE dispatch_purchase (
  id         integer PRIMARY KEY,
  quantity   integer NOT NULL,
  price      numeric(10,2) NOT NULL,
  order_id   integer NOT NULL REFERENCES dispatch_order(id) DEFERRABLE INITIALLY DEFERRED,
  product_id integer NOT NULL REFERENCES dispatch_product(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_globalsetting (
  id             integer PRIMARY KEY,
  setting        text,
  version        varchar(50),
  created_at     timestamptz,
  updated_at     timestamptz,
  sandbox        boolean,
  application_id varchar(255),
  location_id    varchar(255),
  access_token   varchar(255)
);

CREATE TABLE dispatch_role (
  id       integer PRIMARY KEY,
  name     varchar(255) NOT NULL,
  abbrev   varchar(50),
  type     integer,
  "order"  integer,
  user_id  integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  group_id integer REFERENCES auth_group(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_role_permissions (
  id            integer PRIMARY KEY,
  role_id       integer REFERENCES dispatch_role(id) DEFERRABLE INITIALLY DEFERRED,
  permission_id integer REFERENCES auth_permission(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_template (
  id          integer PRIMARY KEY,
  task_name   varchar(255),
  action_name varchar(255),
  text_name   varchar(255),
  "function"  varchar(255),
  status      integer,
  duration    integer,
  category_id integer REFERENCES dispatch_category(id) DEFERRABLE INITIALLY DEFERRED,
  predefined  boolean,
  read_only   boolean,
  extensions  text,
  alerts      text,
  separate    boolean
);

CREATE TABLE dispatch_template_edit_roles   (id integer PRIMARY KEY, template_id integer REFERENCES dispatch_template(id), role_id    integer REFERENCES dispatch_role(id));

CREATE TABLE dispatch_template_view_roles   (id integer PRIMARY KEY, template_id integer REFERENCES dispatch_template(id), role_id    integer REFERENCES dispatch_role(id));

CREATE TABLE dispatch_template_view_groups  (id integer PRIMARY KEY, template_id integer REFERENCES dispatch_template(id), group_id   integer REFERENCES auth_group(id));

CREATE TABLE dispatch_template_products     (id integer PRIMARY KEY, template_id integer REFERENCES dispatch_template(id), product_id integer REFERENCES dispatch_product(id));

CREATE TABLE dispatch_template_predecessors (id integer PRIMARY KEY, from_template_id integer REFERENCES dispatch_template(id), to_template_id integer REFERENCES dispatch_template(id));

CREATE TABLE dispatch_record (
  id             integer PRIMARY KEY,
  target_type_id integer REFERENCES django_content_type(id) DEFERRABLE INITIALLY DEFERRED,
  target_id      integer NOT NULL,
  type           integer NOT NULL,
  created_at     timestamptz NOT NULL,
  text           text NOT NULL,
  author_id      integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  group_id       integer,
  public         boolean
);

CREATE TABLE dispatch_record_roles (id integer PRIMARY KEY, record_id integer, role_id integer);

CREATE TABLE dispatch_file (
  id             integer PRIMARY KEY,
  uid            varchar(64) NOT NULL,
  name           varchar(255),
  ext            varchar(20),
  size           bigint NOT NULL,
  type           integer NOT NULL,
  status         integer NOT NULL,
  instruction_id integer REFERENCES dispatch_instruction(id) DEFERRABLE INITIALLY DEFERRED,
  record_id      integer REFERENCES dispatch_record(id) DEFERRABLE INITIALLY DEFERRED,
  product_id     integer REFERENCES dispatch_product(id) DEFERRABLE INITIALLY DEFERRED,
  description    text,
  parameters     text NOT NULL,
  created_at     timestamptz NOT NULL
);

CREATE TABLE dispatch_record_attachments (
  id        integer PRIMARY KEY,
  record_id integer REFERENCES dispatch_record(id),
  file_id   integer REFERENCES dispatch_file(id)
);

CREATE TABLE dispatch_comment (
  id         integer PRIMARY KEY,
  created_at timestamptz NOT NULL,
  text       text,
  author_id  integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  plan_id    integer NOT NULL REFERENCES dispatch_plan(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_note (
  id         integer PRIMARY KEY,
  created_at timestamptz NOT NULL,
  text       text,
  author_id  integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  doctor_id  integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE dispatch_notification (
  id               bigint PRIMARY KEY,
  created_at       timestamptz NOT NULL,
  sender           varchar(255),
  template_name    varchar(255),
  template_context text,
  read             boolean NOT NULL,
  item_id          integer,
  item_type_id     integer REFERENCES django_content_type(id) DEFERRABLE INITIALLY DEFERRED,
  recipient_id     integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  sent             boolean NOT NULL,
  send             boolean NOT NULL
);

CREATE TABLE dispatch_task (
  id             integer PRIMARY KEY,
  template_id    integer NOT NULL REFERENCES dispatch_template(id) DEFERRABLE INITIALLY DEFERRED,
  text           text,
  checked        boolean NOT NULL,
  done_at        timestamptz,
  actor_id       integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED,
  instruction_id integer REFERENCES dispatch_instruction(id) DEFERRABLE INITIALLY DEFERRED,
  plan_id        integer REFERENCES dispatch_plan(id) DEFERRABLE INITIALLY DEFERRED,
  order_id       integer REFERENCES dispatch_order(id) DEFERRABLE INITIALLY DEFERRED,
  file_id        integer REFERENCES dispatch_file(id) DEFERRABLE INITIALLY DEFERRED,
  jaw            integer NOT NULL
);

CREATE TABLE dispatch_action (
  id            integer PRIMARY KEY,
  action        varchar(50) NOT NULL,
  "date"        timestamptz NOT NULL,
  item_id       integer,
  item_type_id  integer REFERENCES django_content_type(id) DEFERRABLE INITIALLY DEFERRED,
  owner_id      integer,
  owner_type_id integer REFERENCES django_content_type(id) DEFERRABLE INITIALLY DEFERRED,
  data          text,
  user_id       integer REFERENCES auth_user(id) DEFERRABLE INITIALLY DEFERRED
);

-- Django indexes every foreign key.
DO $$
DECLARE
  fk record;
BEGIN
  FOR fk IN
    SELECT c.conrelid::regclass AS tbl, a.attname AS col
      FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace
       AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1])
  LOOP
    EXECUTE format('CREATE INDEX ON %s (%I)', fk.tbl, fk.col);
  END LOOP;
END
$$;
