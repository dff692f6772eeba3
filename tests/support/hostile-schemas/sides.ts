import postgres, { type Sql } from "postgres";
import { ident } from "../../../shared/db/ident.ts";
import type { TestDatabase } from "../databases.ts";
import type { HostileSchema, HostileTable } from "./schema.ts";
import { nameOf } from "./tables.ts";

/** Nothing that the database or the role says counts in these sessions. */
const PINNED = {
  TimeZone: "UTC",
  DateStyle: "ISO, MDY",
  IntervalStyle: "postgres",
  extra_float_digits: "1",
  bytea_output: "hex",
  xmloption: "content",
  xmlbinary: "base64",
  lc_monetary: "C",
  standard_conforming_strings: "on",
  array_nulls: "on",
  quote_all_identifiers: "off",
  transform_null_equals: "off",
  client_encoding: "UTF8",
  search_path: "public, pg_temp",
  timezone_abbreviations: "Default",
  default_transaction_isolation: "read committed",
  default_transaction_deferrable: "off",
};

/** The first of some texts that the source's type reads, and, if it is to fit, that the target's type gives back as it is; or NULL. */
const DRAWN = `create function pg_temp.drawn(choices text[], type text, other text, fits boolean) returns text language plpgsql as $$
  declare v_choice text; v_fits boolean;
  begin
    foreach v_choice in array choices loop
      begin
        execute format('select %L::%s', v_choice, type) into v_choice;
        v_fits := true;
        if fits then
          begin
            execute format('select (%1$L::%3$s::text::%2$s)::text = %1$L', v_choice, type, other) into v_fits;
          exception when undefined_object then v_fits := true;
          end;
        end if;
        if v_fits then return v_choice; end if;
      exception when others then null;
      end;
    end loop;
    return null;
  end $$`;
/** What a text says, by an expression over "?"; what cannot be read is told from everything else. */
const SAYS = `create function pg_temp.says(value text, expression text, otherwise text) returns text language plpgsql as $$
  declare v_said text;
  begin
    execute 'select ' || replace(expression, '?', quote_literal(value) || '::text') into v_said;
    return v_said;
  exception when others then return otherwise; end $$`;

/** A session of a person on one side, who is a superuser. */
export async function openSession(db: TestDatabase): Promise<Sql> {
  const sql = postgres(db.superuserUrl, { max: 1, max_lifetime: null, onnotice: () => undefined, connection: PINNED as never });
  await sql.unsafe(DRAWN);
  await sql.unsafe(SAYS);
  return sql;
}

/** Values of a row as text: the columns, then the references as the parent's legacy ids. */
export type Row = readonly (string | null)[];
export type Rows = ReadonlyMap<string, Row>;

export async function sourceRows(sql: Sql, table: HostileTable): Promise<Rows> {
  const columns = [...table.columns, ...table.references].map(({ source }) => `t.${ident(source)}::text`);
  return rowsOf(
    sql,
    `select t.${ident(table.key)}::text as id, json_build_array(${columns.join(", ")}) as row from ${nameOf(table.source)} t`,
  );
}

export async function targetRows(
  sql: Sql,
  { tables }: HostileSchema,
  table: HostileTable,
  gone: readonly string[] = [],
): Promise<Rows> {
  const columns = [
    ...table.columns.map(({ target }) => (gone.includes(target) ? "'nobody'" : `t.${ident(target)}::text`)),
    ...table.references.map(({ target, parent }) => {
      if (gone.includes(target)) return "'nobody'";
      const to = tables[parent];
      if (!to) throw new RangeError("a reference without a parent");
      const found = `(select p.${ident(to.legacyKey)}::text from ${nameOf(to.target)} p where p.id = t.${ident(target)})`;
      return `case when t.${ident(target)} is not null then coalesce(${found}, 'nobody') end`;
    }),
  ];
  return rowsOf(
    sql,
    `select t.${ident(table.legacyKey)}::text as id, json_build_array(${columns.join(", ")}) as row from ${nameOf(table.target)} t`,
  );
}

/** The same, as far as DDL has left it: `nobody` stands for a column that is gone, and where more is, it is still known which rows there are. */
export async function landedRows(sql: Sql, schema: HostileSchema, table: HostileTable): Promise<Rows> {
  const ids = `select ${ident(table.legacyKey)}::text as id, '[]'::json as row from ${nameOf(table.target)}`;
  const there = await sql.unsafe<{ name: string }[]>(
    `select attname::text as name from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped`,
    [nameOf(table.target)],
  );
  const names = there.map(({ name }) => name);
  const gone = [...table.columns, ...table.references].map(({ target }) => target).filter((name) => !names.includes(name));
  return targetRows(sql, schema, table, gone).catch(() => rowsOf(sql, ids).catch(() => new Map<string, never>()));
}

async function rowsOf(sql: Sql, query: string): Promise<Rows> {
  const found = await sql.unsafe<{ id: string; row: (string | null)[] }[]>(query);
  return new Map(found.map(({ id, row }) => [id, row]));
}

/** Which pairs of texts say the same, by the expression of each. */
export async function saySame(
  sql: Sql,
  pairs: readonly (readonly [there: string, here: string, as: string])[],
): Promise<boolean[]> {
  if (pairs.length === 0) return [];
  const found = await sql<{ same: boolean }[]>`
    select pg_temp.says(p.pair ->> 0, p.pair ->> 2, 'unreadable there') is not distinct from pg_temp.says(p.pair ->> 1, p.pair ->> 2, 'unreadable here') as same
      from jsonb_array_elements(${JSON.stringify(pairs)}::text::jsonb) with ordinality p (pair, n) order by p.n`;
  return found.map(({ same }) => same);
}
