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

create type public.treatment_phase as enum ('enrolment', 'in_treatment', 'paused', 'closed');
create type public.employment_status as enum ('active', 'inactive', 'terminated', 'on_leave');
create type public.jaw_type as enum ('upper', 'lower');
create type public.project_type as enum
  ('stl_upper', 'stl_lower', 'clinical_photo', 'treatment_plan', 'xray', 'cbct_scan', 'simulation',
   'aligner_design', 'document', 'other');
create type public.project_status as enum
  ('draft', 'in_review', 'approved', 'in_progress', 'completed', 'archived', 'deleted');
create type public.case_state_type as enum ('treatment_active', 'case_closed');
create type public.recipient_type as enum ('patient', 'profile');
