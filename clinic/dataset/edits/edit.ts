export interface Edit {
  readonly table: string;
  readonly kind: "inserted" | "updated";
  readonly statement: string;
}

/** Changes a share of `count` rows of a table, one at least, that satisfy `where`. */
export function change(seed: number, table: string, rows: number, set: string, where = "true"): Edit {
  return {
    table,
    kind: "updated",
    statement: `update public.${table} t set ${set} where id in ${some(table, seed, rows, where)}`,
  };
}

/** A share of `count` rows of a table, scattered by a hash of their ids; other rows for another condition, or one edit would undo the next. */
function some(table: string, seed: number, rows: number, where: string): string {
  const salt = `/${seed}/${table}/${where}`.replaceAll("'", "''");
  return `(select id from public.${table} where ${where} order by md5(id::text || '${salt}'), id limit ${Math.max(1, Math.round(rows))})`;
}

/** A doctor whose own record is surely in order: patients who are doctors may have a code that nobody knows. */
export function someDoctor(seed: number, of: string): string {
  return `(select s.user_id from public.dispatch_doctorsetting s
    where not exists (select from public.dispatch_patient q where q.user_id = s.user_id)
    order by md5(s.user_id::text || '/${seed}/' || ${of}::text), s.user_id limit 1)`;
}

export function someOffice(seed: number, of: string): string {
  return `(select o.id from public.dispatch_office o order by md5(o.id::text || '/${seed}/' || ${of}::text), o.id limit 1)`;
}

/** An order that surely lands: its own codes, its patient's and that one's doctor are in order. */
export function someInstruction(seed: number, of: string): string {
  return `(select i.id from public.dispatch_instruction i join public.dispatch_patient p on p.id = i.patient_id
    where i.status in (1, 2, 4) and i.course_id in (1, 2, 3, 4) and p.status in (1, 2, 4) and p.sex in (1, 2) and p.birthdate >= '1900-01-01'
      and not exists (select from public.dispatch_patient q where q.user_id = p.doctor_id)
    order by md5(i.id::text || '/${seed}/' || ${of}::text), i.id limit 1)`;
}
