-- Purpose: the outbox of alerts: each message to a person's address, and what became of it; and how people are told.

create table public.sync_alert_settings (
  one                    boolean primary key default true check (one),
  escalate_after_minutes integer not null default 30 check (escalate_after_minutes > 0),
  digest_above           integer not null default 5 check (digest_above > 0),
  tries                  integer not null default 8 check (tries between 1 and 20),
  heartbeat_at           timestamptz,
  looked_at              timestamptz not null default clock_timestamp(),
  addressed              boolean not null default false,
  hourly                 integer not null default 20 check (hourly > 0)
);
comment on table public.sync_alert_settings is
  'How people are told of alerts. One row, which sync.deliver_alerts makes; without it the defaults count.';
comment on column public.sync_alert_settings.escalate_after_minutes is
  'A critical alert that nobody has acknowledged for so long is told to the second address.';
comment on column public.sync_alert_settings.digest_above is
  'More messages of one kind than these within one minute become one.';
comment on column public.sync_alert_settings.hourly is
  'After so many messages to one address within an hour, the rest comes as a digest every ten minutes.';
comment on column public.sync_alert_settings.tries is
  'How often a message is tried before it is given up, after pauses of 1, 2, 4, ... 60 minutes.';
comment on column public.sync_alert_settings.heartbeat_at is
  'The latest tick for which the heartbeat address was called.';
comment on column public.sync_alert_settings.looked_at is
  'When the job isthmus-deliver-alerts last looked for messages; before its first look, since when it is waited for.';
comment on column public.sync_alert_settings.addressed is 'Whether Vault has an address: then looks are expected.';
alter table public.sync_alert_settings enable row level security;
create policy team_reads on public.sync_alert_settings for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_alert_settings from anon, authenticated, service_role;
grant select on public.sync_alert_settings to authenticated, isthmus_worker, isthmus_decisions;

create table public.sync_alert_deliveries (
  id              uuid primary key default gen_random_uuid(),
  ordinal         bigint not null generated always as identity,
  event           text not null check (event in ('opened', 'escalated', 'cleared', 'digest', 'test')),
  slot            text not null check (slot in ('first', 'second')),
  alert_ids       uuid[] not null default '{}',
  body            jsonb,
  status          text not null default 'waiting' check (status in ('waiting', 'sent', 'delivered', 'failed', 'missed', 'dropped')),
  tries           integer not null default 0,
  next_attempt_at timestamptz not null default clock_timestamp(),
  request_id      bigint,
  tried_at         timestamptz,
  status_code     integer,
  last_error      text,
  created_at      timestamptz not null default clock_timestamp(),
  ended_at        timestamptz,
  check (body is not null or event = 'test')
);
comment on table public.sync_alert_deliveries is
  'Messages about alerts to the addresses of people, and what became of each. Ended ones are deleted after 30 days.';
comment on column public.sync_alert_deliveries.id is
  'Goes with every try (header X-Isthmus-Delivery, id in the body): who gets it twice knows it by this.';
comment on column public.sync_alert_deliveries.slot is
  'first: the Vault secret isthmus_webhook_url. second: isthmus_webhook_url_2.';
comment on column public.sync_alert_deliveries.alert_ids is 'The rows of sync_alerts that it tells of.';
comment on column public.sync_alert_deliveries.status is
  'waiting: for its next try. sent: pg_net has it. delivered: answered with a status from 200 to 299, where pg_net '
  'has followed redirects. failed: given up, but for one try an hour. missed: given up, and what it says is over; a '
  'summary tells it when the address works again. dropped: nobody needs it any more, or a test without an address.';
comment on column public.sync_alert_deliveries.request_id is 'pg_net''s number of the latest try.';
comment on column public.sync_alert_deliveries.last_error is
  'Why the latest try failed. Never an address, a key or the words of an answer.';
create unique index sync_alert_deliveries_one_test on public.sync_alert_deliveries (slot) where event = 'test' and status in ('waiting', 'sent');
create index sync_alert_deliveries_open_idx on public.sync_alert_deliveries (ordinal) where status in ('waiting', 'sent');
create index sync_alert_deliveries_ended_idx on public.sync_alert_deliveries (slot, ended_at) where status in ('delivered', 'failed');
create index sync_alert_deliveries_failed_idx on public.sync_alert_deliveries (ended_at) where status = 'failed';
create index sync_alert_deliveries_missed_idx on public.sync_alert_deliveries (slot) where status = 'missed';
create index sync_alert_deliveries_slot_idx on public.sync_alert_deliveries (slot, created_at);
create index sync_alert_deliveries_alerts_idx on public.sync_alert_deliveries using gin (alert_ids);
create index sync_alert_deliveries_created_at_idx on public.sync_alert_deliveries (created_at) where status not in ('waiting', 'sent');
alter table public.sync_alert_deliveries enable row level security;
create policy team_reads on public.sync_alert_deliveries for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_alert_deliveries from anon, authenticated, service_role;
revoke all on sequence public.sync_alert_deliveries_ordinal_seq from anon, authenticated, service_role;
grant select on public.sync_alert_deliveries to authenticated;
-- A test has no body before the owner's job writes it: whoever has the worker's secret sends no words of his own.
grant select, insert (event, slot) on public.sync_alert_deliveries to isthmus_worker;
