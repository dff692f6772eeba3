import postgres, { type Sql } from "postgres";

/** A session in which both servers print values alike. */
export function pinnedSession(url: string): Sql {
  return postgres(url, {
    max: 1,
    onnotice: () => undefined,
    connection: {
      TimeZone: "UTC",
      DateStyle: "ISO, YMD",
      IntervalStyle: "postgres",
      extra_float_digits: "1",
      bytea_output: "hex",
      search_path: "public",
    },
  });
}
