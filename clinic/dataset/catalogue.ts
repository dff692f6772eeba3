import type { Held } from "./held.ts";
import { HOSTILE_TEXTS, JSON_TEXTS } from "./names.ts";
import type { Roles } from "./people.ts";
import { at, Random } from "./random.ts";
import type { Core } from "./rows.ts";
import type { Catalogue, Category, Discount, Offer, Product, Purchase } from "./small-rows.ts";
import { spoiler } from "./spoil.ts";
import { idsWithGaps, money, sizeAt } from "./values.ts";

/** Fourteen products, whatever the scale: as many as there are kinds of customization. */
const CUSTOMIZATIONS = [...JSON_TEXTS.valid, ...JSON_TEXTS.broken, ...JSON_TEXTS.unknownToJsonb, "", "[]", null] as const;

export function makeCatalogue(seed: number, core: Core, roles: Roles, held: Held): Catalogue {
  const size = sizeAt(core.scale);
  const random = (table: string) => Random.for(seed, `dispatch_${table}`);
  const ids = (table: string, count: number) => idsWithGaps(Random.for(seed, `ids of ${table}`), count);
  const products = makeProducts(random("product"), ids("products", CUSTOMIZATIONS.length));
  const offers = makeOffers(random("offer"), ids("offers", size(788, 24)), core, { roles, held, products });
  return {
    categories: makeCategories(ids("categories", size(44, 12))),
    products,
    offers,
    discounts: makeDiscounts(random("discount"), ids("discounts", size(151, 24)), core.scale, offers, held),
    purchases: makePurchases(random("purchase"), ids("purchases", size(3_701, 12)), core, products),
    wares: ids("wares", size(16_552)).map((id) => ({ id })),
    storages: [{ id: 1 }],
  };
}

/** Roots, their children and grandchildren. The first category has a later parent, the third the last of all. */
function makeCategories(ids: readonly number[]): Category[] {
  const half = Math.ceil(ids.length / 2);
  const parent = (index: number) => {
    if (index === 0) return at(ids, 1);
    if (index === 2) return at(ids, ids.length - 1);
    if (index <= 3) return null;
    return index < half ? at(ids, index % 2 === 0 ? 1 : 3) : at(ids, 4 + (index % (half - 4)));
  };
  return ids.map((id, index) => ({ id, name: `Category ${id}`, parent: parent(index) }));
}

function makeProducts(random: Random, ids: readonly number[]): Product[] {
  return ids.map((id, index) => ({
    id,
    name: `Product ${id}`,
    description: at([null, "", "A product", at(HOSTILE_TEXTS, index % HOSTILE_TEXTS.length)], index % 4),
    free: random.chance(0.1),
    deleted: index % 4 === 3,
    customization: at(CUSTOMIZATIONS, index),
    type: index % 5 === 4 ? null : (index % 6) + 1,
    substitute: random.chance(0.2),
    course: at([1, 2, 3, 4, 5, 7, 8, 9], index % 8),
  }));
}

interface Offered {
  readonly roles: Roles;
  readonly held: Held;
  readonly products: readonly Product[];
}

function makeOffers(random: Random, ids: readonly number[], core: Core, { roles, held, products }: Offered): Offer[] {
  const queued = new Set(held.users);
  const doctors = core.doctorSettings.map((row) => row.user).filter((user) => !queued.has(user));
  const rows = ids.map((id): Offer => ({
    id,
    both: money(random.between(0, 400_000)),
    upper: money(random.between(0, 200_000)),
    lower: random.chance(0.9) ? money(random.between(0, 200_000)) : null,
    doctor: random.pickSkewed(doctors),
    product: random.pick(products).id,
  }));
  const spoil = spoiler(random, rows, core.scale);
  spoil(1, (row) => (row.doctor = null));
  // Nothing else makes these users doctors: not even the one whose own profile is in the queue.
  spoil(0, (row, index) => (row.doctor = at(roles.namedByOffer, index)), roles.namedByOffer.length);
  spoil(2, (row) => (row.doctor = held.namedDoctor), 2);
  spoil(3, (row) => (row.product = null));
  spoil(2, (row) => Object.assign(row, { both: null, upper: null, lower: null }));
  spoil(2, (row) => (row.both = "99999999.99"));
  spoil(2, (row) => (row.upper = "0.01"));
  spoil(2, (row) => (row.lower = "-5.00"));
  // Other doctors whose own profile is in the queue; the smallest data sets have none.
  const waiting = core.doctorSettings.map((row) => row.user).filter((user) => queued.has(user));
  if (waiting.length > 0) spoil(3, (row, index) => (row.doctor = at(waiting, index % waiting.length)));
  return rows;
}

function makeDiscounts(random: Random, ids: readonly number[], scale: number, offers: readonly Offer[], held: Held): Discount[] {
  const queued = new Set(held.users);
  const waiting = offers.filter(({ doctor }) => doctor !== null && queued.has(doctor));
  const free = offers.filter((offer) => !waiting.includes(offer));
  const rows = ids.map((id): Discount => ({
    id,
    percent: random.between(13, 100),
    reason: random.chance(0.7) ? "Reason" : null,
    count: random.chance(0.5) ? random.between(1, 9) : null,
    start: random.chance(0.5) ? "2024-01-01" : null,
    finish: random.chance(0.5) ? "2025-12-31" : null,
    total: random.chance(0.3),
    used: random.chance(0.9) ? random.between(0, 3) : null,
    offer: random.pick(free).id,
  }));
  const spoil = spoiler(random, rows, scale);
  // The target's own check refuses these, and takes the two after them.
  spoil(2, (row, index) => (row.percent = at([101, -5], index % 2)), 2);
  spoil(2, (row, index) => (row.percent = at([0, 100], index % 2)), 2);
  spoil(2, (row, index) => (row.offer = at(waiting, index % waiting.length).id), 2);
  // One that the check would refuse, if it did not wait.
  spoil(1, (row) => Object.assign(row, { offer: at(waiting, 0).id, percent: 250 }));
  spoil(2, (row) => (row.offer = offers.find(({ doctor }) => doctor === null)?.id ?? row.offer));
  spoil(2, (row) => Object.assign(row, { start: "2025-12-31", finish: "2024-01-01" }));
  spoil(2, (row) => (row.reason = ""));
  return rows;
}

function makePurchases(random: Random, ids: readonly number[], core: Core, products: readonly Product[]): Purchase[] {
  const rows = ids.map((id): Purchase => ({
    id,
    quantity: random.between(1, 5),
    price: money(random.between(100, 90_000)),
    order: random.pick(core.merchandise).id,
    product: random.pick(products).id,
  }));
  const spoil = spoiler(random, rows, core.scale);
  spoil(2, (row) => (row.price = "0.01"));
  spoil(2, (row) => (row.price = "99999999.99"));
  spoil(2, (row) => (row.quantity = 0));
  return rows;
}
