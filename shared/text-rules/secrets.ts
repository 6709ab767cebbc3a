import { type Finding, withoutOverlaps } from './findings.ts'
import { fold } from './fold.ts'
import { findPrivateKeys } from './private-keys.ts'
import { findInReadings } from './readings.ts'

/** `name`: the issuer. */
export type Secret = Finding<'api_key'> & { name: string }

type Rule = { name: string; pattern: RegExp; isReal?: (token: string) => boolean }

/**
 * Whether a token looks random: it changes between kinds of characters often, or has a long part with letters and
 * digits. `sk-fading-circle-container` is a CSS class, and `sk-xxxxxxxxxxxxxxxxxxxxxxxx` a placeholder.
 */
function isRandom(token: string): boolean {
  const pieces = token.split(/[-_]/).slice(1)
  const body = pieces.join('')
  if (new Set(body).size < 8) return false
  if (pieces.some(piece => piece.length >= 16 && /\d/.test(piece) && /[A-Za-z]/.test(piece))) return true
  const changes = body.match(/[a-z](?=[^a-z])|[A-Z](?=[^A-Z])|\d(?=\D)/g)?.length ?? 0
  return changes / body.length >= 0.3
}

/** Whether the first part of a token is the header of a JSON Web Token: JSON that names an algorithm. */
function isJwt(token: string): boolean {
  try {
    return 'alg' in (JSON.parse(Buffer.from(token.slice(0, token.indexOf('.')), 'base64url').toString()) as object)
  } catch {
    return false
  }
}

/**
 * Not within a word: `disk-…` is not a key. The last letter of the escapes `\n`, `\u0022` and `%3D` is not part of a
 * word.
 */
const START = '(?:(?<![A-Za-z0-9])|(?<=\\\\[bfnrt]|\\\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2}))'
/** A token that starts with `head`, of any length. */
const long = (head: string, rest: string) => new RegExp(`${START}${head}${rest}`, 'g')
/** A token of fixed length. */
const fixed = (head: string, rest: string) => new RegExp(`${START}${head}${rest}(?![A-Za-z0-9])`, 'g')

/** Usual names of the secret that belongs to an AWS access key id. */
const AWS_SECRET = '(?:aws[_ -]?secret[_ -]?key|secret[_ -]?access[_ -]?key)'
const AWS_FIELD = new RegExp(AWS_SECRET, 'i')
/** Text between a name and its value in settings, JSON, nested JSON, and the XML of AWS. */
const IS = '\\\\?["\']?\\s{0,4}[:=>]\\s{0,4}\\\\?["\']?'

const RULES: readonly Rule[] = [
  // OpenAI (sk-…, sk-proj-…), Anthropic (sk-ant-…), OpenRouter, DeepSeek, and this server's own (sk-sluice-…,
  // sk-admin-…).
  { name: 'sk', pattern: long('sk-', '[\\w-]{20,}'), isReal: isRandom },
  { name: 'stripe', pattern: long('[srp]k_live_', '[A-Za-z0-9]{16,}'), isReal: isRandom },
  { name: 'webhook', pattern: long('whsec_', '[A-Za-z0-9+/=]{24,}'), isReal: isRandom },
  { name: 'aws', pattern: fixed('(?:AKIA|ASIA)', '[A-Z2-7]{16}') },
  {
    name: 'aws-secret',
    pattern: new RegExp(`(?<=${AWS_SECRET}${IS})[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])`, 'gi'),
  },
  { name: 'github', pattern: fixed('gh[pousr]_', '[A-Za-z0-9]{36,255}') },
  { name: 'github', pattern: fixed('github_pat_', '[A-Za-z0-9]{22}_[A-Za-z0-9]{59}') },
  { name: 'gitlab', pattern: long('glpat-', '[\\w-]{20,}'), isReal: isRandom },
  { name: 'slack', pattern: long('xox[abeoprs]-', '[A-Za-z0-9-]{10,}'), isReal: token => /\d/.test(token) },
  { name: 'slack', pattern: long('xapp-', '\\d-[A-Za-z0-9-]{20,}') },
  { name: 'slack-webhook', pattern: /https:\/\/hooks\.slack\.com\/services\/T\w{6,14}\/B\w{6,14}\/\w{20,32}/g },
  { name: 'google', pattern: fixed('AIza', '[\\w-]{35}') },
  { name: 'google', pattern: long('GOCSPX-', '[\\w-]{28}') },
  { name: 'sendgrid', pattern: fixed('SG\\.', '[\\w-]{22}\\.[\\w-]{43}') },
  { name: 'npm', pattern: fixed('npm_', '[A-Za-z0-9]{36}') },
  { name: 'huggingface', pattern: fixed('hf_', '[A-Za-z0-9]{34}') },
  { name: 'groq', pattern: fixed('gsk_', '[A-Za-z0-9]{52}') },
  { name: 'xai', pattern: fixed('xai-', '[A-Za-z0-9]{80}') },
  { name: 'digitalocean', pattern: fixed('do[opr]_v1_', '[0-9a-f]{64}') },
  // The header ends before another possible start; otherwise a text of many starts would be scanned again from each.
  { name: 'jwt', pattern: long('eyJ', '(?:(?![-_]eyJ)[\\w-]){10,}\\.[\\w-]{10,}\\.[\\w-]{10,}'), isReal: isJwt },
]

/** Finds keys and tokens by the formats of their issuers, from left to right, without overlaps. */
export const findSecrets = (text: string): Secret[] => withoutOverlaps(findInReadings(text, findInPlain), ['api_key'])

function findInPlain(text: string): Secret[] {
  const found: Secret[] = findPrivateKeys(text).map(one => ({ ...one, type: 'api_key', name: 'private-key' }))
  for (const { name, pattern, isReal } of RULES) {
    for (const { 0: token, index } of text.matchAll(pattern)) {
      if (isReal && !isReal(token)) continue
      found.push({ type: 'api_key', name, start: index, end: index + token.length })
    }
  }
  return found
}

/** Whether the name of a field marks its value as a secret of AWS: `{"SecretAccessKey": "wJalr…"}`. */
export const isAwsSecretField = (key: string, value: string): boolean =>
  AWS_FIELD.test(fold(key).text) && /^\s*[A-Za-z0-9/+]{40}\s*$/.test(fold(value).text)
