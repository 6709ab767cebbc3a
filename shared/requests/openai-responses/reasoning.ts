/**
 * Reasoning of other providers, as `encrypted_content` of a reasoning item: clients keep it unread and send it back. The prefix tells
 * it from OpenAI's own, which no other provider can read.
 */
const SIGNATURE = 'sluice-signature:'
const REDACTED = 'sluice-redacted:'

export const encryptSignature = (signature: string): string => SIGNATURE + signature
export const encryptRedacted = (data: string): string => REDACTED + data

/** @returns null: not written by this server */
export function readEncrypted(
  content: string,
): { type: 'thinking'; signature: string } | { type: 'redacted_thinking'; data: string } | null {
  if (content.startsWith(SIGNATURE)) return { type: 'thinking', signature: content.slice(SIGNATURE.length) }
  if (content.startsWith(REDACTED)) return { type: 'redacted_thinking', data: content.slice(REDACTED.length) }
  return null
}
