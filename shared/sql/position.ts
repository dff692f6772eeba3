/** Where the reading node stands. Transaction ids are 64 bits wide, as text. */
export interface SourcePosition {
  readonly xmin: string;
  readonly xmax: string;
  readonly system_identifier: string;
  readonly timeline: number;
  /** Another database of the server, or one that was dropped and restored under its name, has another. */
  readonly database_oid: string;
  readonly database_name?: string;
  /** Since when the server runs. */
  readonly server_start: string;
  readonly in_recovery: boolean;
  readonly server_version: number;
  /** The node's clock, with microseconds. */
  readonly source_time: string;
}
