import type { Finding } from './findings.ts'

const LOCAL = /[\p{L}\p{N}!#$%&'*+/=?^_{|}~.-]{1,64}$/u
const DOMAIN =
  /^(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?\.){1,8}(?:xn--[a-z0-9-]{2,59}|\p{L}{2,24})(?![\p{L}\p{N}])/iu
/** `logo@2x.png` is a file name. None of these is a top-level domain. */
const FILE = /\.(?:png|jpe?g|gif|svg|webp|avif|ico|css|js|mjs|cjs|tsx?|json|html?|pdf|txt|xml|ya?ml)$/i

/** Finds e-mail addresses in their usual form (without the quoted names, comments and address literals of RFC 5322). */
export function findEmails(text: string): Finding<'email'>[] {
  const found: Finding<'email'>[] = []
  // Starts at each @, with bounded lookups on both sides: a pattern that starts with the name is quadratic in a long
  // word.
  for (let at = text.indexOf('@'); at !== -1; at = text.indexOf('@', at + 1)) {
    const local = LOCAL.exec(text.slice(Math.max(0, at - 64), at))?.[0].replace(/^[^\p{L}\p{N}_+]+/u, '')
    if (!local || local.endsWith('.') || local.includes('..')) continue
    const domain = DOMAIN.exec(text.slice(at + 1, at + 256))?.[0]
    if (domain === undefined || FILE.test(domain)) continue
    const start = at - local.length
    const end = at + 1 + domain.length
    if (!isUserOfUrl(text, start, local, end)) found.push({ type: 'email', start, end })
  }
  return found
}

/** `https://user:password@host.com` and `git@github.com:owner/name` contain a login, not a mailbox. */
const isUserOfUrl = (text: string, start: number, local: string, end: number): boolean =>
  /:\/\/[^\s@]*$/.test(text.slice(Math.max(0, start - 80), start) + local) ||
  (local === 'git' && /^[:/]/.test(text.slice(end, end + 1)))
