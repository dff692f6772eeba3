import { inventCode, inventName } from "./names.ts";
import type { Random } from "./random.ts";
import type { Office } from "./rows.ts";
import { spoiler } from "./spoil.ts";
import { dirty, idsWithGaps } from "./values.ts";

/** Country texts of the real installation, with their numbers of offices; the rest is in the USA. */
const ABROAD: readonly (readonly [string, number])[] = [
  ["India", 155],
  ["Japan", 110],
  ["Thailand", 64],
  ["Vietnam", 3],
  ["Australia", 3],
  ["Philippines", 1],
  ["Singapore", 1],
  ["France", 1],
  ["New Zealand", 1],
];

/** Percent and fraction, mixed: 10.2500 and 0.1025 are the same rate; 0.5000 could be either. */
const TAX_RATES = ["0.0000", "0.0825", "0.1025", "10.2500", "8.8750", "0.5000"] as const;

export function makeOffices(random: Random, count: number, scale: number): Office[] {
  const offices = idsWithGaps(random, count).map((id) => makeOffice(random, id));
  const spoil = spoiler(random, offices, scale);
  for (const [country, number] of ABROAD) spoil(number, (office) => moveAbroad(random, office, country), 0);
  // At any scale somebody is abroad.
  if (!offices.some((office) => office.country === "Japan")) spoil(1, (office) => moveAbroad(random, office, "Japan"));
  spoil(4, (office) => Object.assign(office, { country: null, valid: false }));
  // Not quite all offices in the USA are valid: 546 of 554.
  spoil(8, (office) => (office.valid = false));
  spoil(9, (office) => (office.name = ""));
  spoil(20, (office) => (office.name = `  ${office.name}  Inc.  `));
  const percent = dirty(scale, 60);
  for (const [index, office] of random.sample(offices, Math.min(count, percent * 2)).entries())
    office.taxRate = index < percent ? "10.2500" : "0.1025";
  return offices;
}

function makeOffice(random: Random, id: number): Office {
  return {
    id,
    name: `${inventName(random)} Dental`,
    address: random.chance(0.03) ? null : `${random.between(1, 9_999)} ${inventName(random)} St.`,
    apt: random.chance(0.7) ? null : `Suite ${random.between(1, 400)}`,
    city: random.chance(0.02) ? null : inventName(random),
    state: random.pick(["CA", "ny", "Tx", "WA"]),
    zip: String(random.between(10_000, 99_999)),
    country: "USA",
    phone: random.pick([
      `(${random.between(200, 999)}) 555-01${random.between(10, 99)}`,
      `555.01${random.between(10, 99)} ext. 4`,
      "",
      "n/a",
      null,
    ]),
    taxRate: random.chance(0.1) ? null : random.pick(TAX_RATES),
    valid: true,
    square: random.chance(0.6) ? `SQ${inventCode(random, 12)}` : null,
    emails: random.chance(0.8),
  };
}

/** No office outside the USA is "valid"; phones and postal codes there take any form. */
function moveAbroad(random: Random, office: Office, country: string): void {
  office.country = country;
  office.valid = false;
  office.state = random.chance(0.5) ? null : inventName(random);
  office.zip = random.pick([
    `〒${random.between(100, 999)}-000${random.between(1, 9)}`,
    `SW1A ${random.between(1, 9)}AA`,
    String(random.between(100_000, 699_999)),
  ]);
  office.phone = random.pick([
    `+81 3-5550-${random.between(1000, 9999)}`,
    `0091/(0)22 5550 ${random.between(1000, 9999)}`,
    `+66 2 555 ${random.between(1000, 9999)} (ask for Ros)`,
  ]);
}
