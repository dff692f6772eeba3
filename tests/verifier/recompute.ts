/**
 * What a target table must hold, recomputed from the source in plain SQL and from clinic/domain.md alone: nothing
 * here knows the code that syncs. A reference is compared by the legacy ids of both ends.
 */
export interface Recomputed {
  readonly entity: string;
  readonly source: Side & {
    /** Which source rows are records. */
    readonly where?: string;
  };
  readonly target: Side & {
    /** The table, where it is not called like the entity. */
    readonly table?: string;
  };
  /** Target column → what it must be, on the source, and how it is read on the target (default: the column of t). */
  readonly columns: Readonly<Record<string, readonly [source: string, target?: string]>>;
  /** Columns that belong to the application, besides id, created_at and updated_at. */
  readonly application?: readonly string[];
  /** Columns that the target computes itself. */
  readonly generated?: readonly string[];
  /** What a column must be where the source, recomputed, says NULL: on the target. */
  readonly unlessSaid?: Readonly<Record<string, string>>;
  /** Records that have left the projection stay. */
  readonly keepsAbsent?: boolean;
}

interface Side {
  readonly from: string;
  readonly id: string;
}

export const ident = (name: string): string => `"${name.replaceAll('"', '""')}"`;
export const quote = (text: string): string => `'${text.replaceAll("'", "''")}'`;
/** The target table, as SQL names it. */
export const tableOf = ({ entity, target }: Recomputed): string => `public.${ident(target.table ?? entity)}`;
/** The column of the legacy key. */
export const keyOf = ({ target }: Recomputed): string => target.id.replace(/^t\./, "").replace(/^"(.*)"$/, "$1");

/** JSON kept as text, as clinic/domain.md says: '' is NULL, what jsonb cannot hold is kept whole. */
export function json(column: string): string {
  return `case when ${column} is null or btrim(${column}, E' \\t\\n\\r') = '' then null
               when pg_input_is_valid(${column}, 'jsonb') then (${column})::jsonb
               else jsonb_build_object('_raw', ${column}, '_unparseable', true) end`;
}

/** '' and the text null mean none. */
export function blankIsNone(column: string): string {
  return `case when ${column} ~* '^\\s*(null)?\\s*$' then null else ${column} end`;
}

/** Whether a user is a member of the group with this name. */
export function group(name: string, user: string): string {
  return `exists (select from auth_user_groups ug join auth_group g on g.id = ug.group_id where ug.user_id = ${user} and g.name = '${name}')`;
}

/** app_label.model of a content type. */
export function modelOf(typeId: string): string {
  return `(select app_label || '.' || model from django_content_type where id = ${typeId})`;
}
