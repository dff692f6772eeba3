import type { Environment } from "./settings.ts";

/** How a moment is shown to a person: in the zone of TZ, else of the machine, or in UTC. What is no moment is shown as it is. */
export function clockOf(env: Environment, utc: boolean | undefined): (iso: string) => string {
  const zone = utc === true ? "UTC" : env["TZ"];
  const format = clock(zone === "" ? undefined : zone) ?? clock(undefined);
  return (iso) => {
    const moment = new Date(iso);
    if (Number.isNaN(moment.getTime()) || !format) return iso;
    const part = Object.fromEntries(format.formatToParts(moment).map(({ type, value }) => [type, value]));
    const { year = "", month = "", day = "", hour = "", minute = "", second = "", timeZoneName = "" } = part;
    return `${year}-${month}-${day} ${hour}:${minute}:${second} ${timeZoneName.replace(/^GMT(\+0$)?/, "UTC")}`;
  };
}

/** Undefined: nobody knows the zone. */
function clock(timeZone: string | undefined): Intl.DateTimeFormat | undefined {
  try {
    return new Intl.DateTimeFormat("en", {
      timeZone,
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      hourCycle: "h23",
      timeZoneName: "shortOffset",
    });
  } catch {
    return undefined;
  }
}
