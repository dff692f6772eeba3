import { sha1 } from "@noble/hashes/legacy.js";
import { bytesToHex, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

/**
 * UUIDv5 (RFC 9562, 5.5) of a record under its source's namespace. Minting the same record again gives the same id.
 * Synchronous SHA-1 in JavaScript, because WebCrypto costs ten times as much per id.
 */
export function mintUuid(namespace: string, entity: string, legacyId: string): string {
  const name = utf8ToBytes(`${entity}:${legacyId}`);
  const input = new Uint8Array(16 + name.length);
  input.set(hexToBytes(namespace.replaceAll("-", "")));
  input.set(name, 16);
  const digest = sha1(input).slice(0, 16);
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x50;
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytesToHex(digest);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
