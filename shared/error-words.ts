/**
 * The code of an error of Deno that came without one, by its name and words; TLS in those of rustls (`invalid peer
 * certificate: UnknownIssuer`). @returns undefined for other words.
 */
export function codeOfWords(words: string): string | undefined {
  return CODES.find(([pattern]) => pattern.test(words))?.[1];
}

const CODES: readonly (readonly [RegExp, string])[] = [
  [/NotValidForName|not valid for name/, "TLS_OTHER_HOST"],
  [/certificate expired|: Expired|NotValidYet/i, "TLS_EXPIRED"],
  [/UnknownIssuer|BadSignature|CaUsedAsEndEntity/, "TLS_UNKNOWN_AUTHORITY"],
  [/CertificateRequired|certificate required/i, "TLS_CLIENT_CERTIFICATE"],
  [/certificate|handshake|tls|rustls/i, "TLS_REFUSED"],
  [/^ConnectionRefused|^tcp connect error: Connection refused/, "ECONNREFUSED"],
  [/^ConnectionReset|^BrokenPipe|^UnexpectedEof/, "ECONNRESET"],
  [/^TimedOut/, "ETIMEDOUT"],
  [/lookup|resolve|dns/i, "ENOTFOUND"],
];
