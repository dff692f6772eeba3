import type { DescribedError } from "../errors.ts";
import type { NoClaim } from "../target/claims.ts";
import type { CommittedPage } from "../target/pages.ts";

/** What became of a message. */
export type PageOutcome =
  | {
      readonly outcome: "committed";
      readonly entity: string;
      readonly read: number;
      readonly bytes: number;
      readonly counts: CommittedPage["counts"];
      readonly next: number;
    }
  | {
      readonly outcome: "adopted";
      readonly read: number;
      readonly adopted: number;
      readonly ambiguous: number;
      readonly next: number;
    }
  | { readonly outcome: "fanned_out"; readonly asked: number | "range"; readonly next: number }
  | { readonly outcome: "compared"; readonly records: number; readonly differing: number; readonly next: number }
  | { readonly outcome: "reported"; readonly next: number }
  | { readonly outcome: "validated"; readonly passed: boolean; readonly differences: number }
  | { readonly outcome: "smaller"; readonly error: DescribedError; readonly pageSize: number }
  | { readonly outcome: "failed"; readonly error: DescribedError; readonly retrySeconds: number | null }
  | NoClaim;
