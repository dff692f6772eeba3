/** What a scrape uses of prom-client, of which prom-client.gen.mjs is made. */
export interface Options {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly registers: readonly Registry[];
}
export class Registry {
  static readonly OPENMETRICS_CONTENT_TYPE: string;
  readonly contentType: string;
  setContentType(contentType: string): void;
  metrics(): Promise<string>;
}
export class Counter {
  constructor(options: Options);
  inc(labels: Readonly<Record<string, string>>, value: number): void;
}
export class Gauge {
  constructor(options: Options);
  inc(labels: Readonly<Record<string, string>>, value: number): void;
}
