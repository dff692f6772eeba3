-- pg_cron as a hosted project has it, in the database that cron.database_name says. Run as the cluster's superuser: a
-- hosted project lets its owner create it (supautils). Safe to repeat.
create extension if not exists pg_cron with schema pg_catalog;
-- supabase/postgres, ansible/files/postgresql_extension_custom_scripts/pg_cron/after-create.sql: jobs are changed by
-- functions alone.
grant usage on schema cron to postgres with grant option;
grant all on all functions in schema cron to postgres with grant option;
grant all on all tables in schema cron to postgres with grant option;
revoke all on cron.job from postgres;
grant select on cron.job to postgres with grant option;
