import { addressesOf } from "../db/connect.ts";
import { IsthmusError, type ErrorCode } from "../errors.ts";
import type { Context } from "../context.ts";
import { installationId } from "../queue/installation.ts";
import { askForIdentities, type Parties, type UnknownIdentity } from "../target/identities.ts";
import { identityOf, sourcePosition } from "../source/position.ts";
import type { SourcePosition } from "../sql/position.ts";
import { findingsOn, type Finding } from "./finding.ts";

const CODES = {
  source: "SOURCE_UNKNOWN",
  target: "TARGET_UNKNOWN",
  target_state: "TARGET_UNKNOWN",
  installation: "INSTALLATION_UNKNOWN",
  source_address: "SOURCE_UNKNOWN",
  target_address: "TARGET_UNKNOWN",
} as const satisfies Record<UnknownIdentity["side"], ErrorCode>;

/**
 * Nothing begins before a person has accepted a source, target or installation that is new, or that the target was
 * put back to an older state. A plan may read a new source: what it would change is what a person wants to know
 * before.
 * @returns the findings of a plan. @throws IsthmusError SOURCE_UNKNOWN, TARGET_UNKNOWN, INSTALLATION_UNKNOWN; then
 * nothing but the question is written.
 */
export async function assertKnown(context: Context, sourceId: number, dryRun = false): Promise<readonly Finding[]> {
  const unknown = await unknownIdentities(context, sourceId, await sourcePosition(context.source));
  const stopping = unknown.find(({ side }) => !(dryRun && side.startsWith("source")));
  if (stopping) {
    throw new IsthmusError(CODES[stopping.side], messageOf(context, stopping), {
      detail: { unknown, hint: `${remedyOf(unknown)} Nothing was written.` },
    });
  }
  return unknown.map((one) => findingOf(context, one));
}

/** What is new, as the check of an installation tells it. */
export async function unknownAsFindings(context: Context, sourceId: number): Promise<readonly Finding[]> {
  const unknown = await unknownIdentities(context, sourceId, await sourcePosition(context.source));
  return unknown.map((one) => findingOf(context, one));
}

/** Whether this installation works at the target that it knows. The tick asks no source. */
export async function isAtHome(context: Context, sourceId: number): Promise<boolean> {
  const { installation, target_address } = partiesOf(context);
  const remembered = await context.cache.recallExecution();
  const unknown = await askForIdentities(context.target, sourceId, { installation, target_address, remembered }, null);
  for (const one of unknown) context.log.error("identity.unknown", { ...one });
  return unknown.length === 0;
}

/** Under which name this installation is known at its target, and where it looks for either database. */
export function partiesOf({ config }: Pick<Context, "config">): Required<Parties> {
  return { installation: installationId(config.FUNCTIONS_URL), ...addressesOf(config) };
}

async function unknownIdentities(
  context: Context,
  sourceId: number,
  position: SourcePosition,
): Promise<readonly UnknownIdentity[]> {
  const remembered = await context.cache.recallExecution();
  const met = { source: identityOf(position), ...partiesOf(context), remembered };
  return askForIdentities(context.target, sourceId, met, position.database_name ?? null);
}

function findingOf(context: Context, one: UnknownIdentity): Finding {
  return findingsOn(null, null)(`${one.side}_unknown`, { message: messageOf(context, one), remedy: remedyOf([one]) });
}

function messageOf({ config }: Context, { side, identity, known }: UnknownIdentity): string {
  const instead = known === null ? "" : `, instead of ${known}`;
  switch (side) {
    case "source":
      return known === null
        ? `No source is known under the name ${config.SOURCE_NAME}, and this target is filled from another one. What answers is ${identity} (server/database).`
        : `Another database answers as the source ${config.SOURCE_NAME} than the one known here: ${identity} (server/database)${instead}.`;
    case "target":
      return `The target is a copy, or another database than the one known here: ${identity} (server/database)${instead}.`;
    case "target_state":
      return `The target seems to have been put back to an older state: ${identity}.`;
    case "installation":
      return `Another installation of the functions works at this target than the one known here: ${identity}${instead}.`;
    case "source_address":
      return `The source is looked for at an address that is new here: ${identity}${instead}. A copy of its files has the same identity.`;
    case "target_address":
      return `The target is looked for at an address that is new here: ${identity}${instead}. A copy of its files has the same identity.`;
  }
}

function remedyOf(unknown: readonly UnknownIdentity[]): string {
  const ids = unknown.map(({ id }) => `'${id}'`).join(", ");
  return (
    "If it is not meant, correct the addresses that this installation is configured with. If it is, accept it, in the table editor or by " +
    `update sync_identities set accepted_by = '<your name>' where id in (${ids}); and start again.`
  );
}
