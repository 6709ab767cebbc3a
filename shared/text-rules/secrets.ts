import { type Finding, withoutOverlaps } from './findings.ts'
import { findPrivateKeys } from './private-keys.ts'

/** `name`: whose key it is. */
export type Secret = Finding<'api_key'> & { name: string }

type Rule = { name: string; pattern: RegExp; isReal?: (token: string) => boolean }

/**
 * A key is random: it goes from one kind of character to another all the time, or has a long piece with letters and
 * digits. `sk-fading-circle-container` is a CSS class, and `sk-xxxxxxxxxxxxxxxxxxxxxxxx` says where a key belongs.
 */
function isRandom(token: string): boolean {
  const pieces = token.split(/[-_]/).slice(1)
  const body = pieces.join('')
  if (new Set(body).size < 8) return false
  if (pieces.some(piece => piece.length >= 16 && /\d/.test(piece) && /[A-Za-z]/.test(piece))) return true
  const changes = body.match(/[a-z](?=[^a-z])|[A-Z](?=[^A-Z])|\d(?=\D)/g)?.length ?? 0
  return changes / body.length >= 0.3
}

/** The header of a JSON Web Token is JSON that names an algorithm. */
function isJwt(token: string): boolean {
  try {
    return 'alg' in (JSON.parse(Buffer.from(token.slice(0, token.indexOf('.')), 'base64url').toString()) as object)
  } catch {
    return false
  }
}

/** Not within a word: `disk-…` is no key. The last letter of `\n`, `\u0022` and `%3D`, as JSON and URLs have them, is no word. */
const START = '(?:(?<![A-Za-z0-9])|(?<=\\\\[bfnrt]|\\\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2}))'
/** What opens with `head` and is as long as it can be. */
const long = (head: string, rest: string) => new RegExp(`${START}${head}${rest}`, 'g')
/** Of a fixed length. */
const fixed = (head: string, rest: string) => new RegExp(`${START}${head}${rest}(?![A-Za-z0-9])`, 'g')

/** How AWS and those who use it name the secret that belongs to an id. */
const AWS_SECRET = '(?:aws[_ -]?secret[_ -]?key|secret[_ -]?access[_ -]?key)'
const AWS_FIELD = new RegExp(AWS_SECRET, 'i')
/** Between a name and its value, in settings, JSON, JSON within JSON, and the XML that AWS answers with. */
const IS = '\\\\?["\']?\\s{0,4}[:=>]\\s{0,4}\\\\?["\']?'

const RULES: readonly Rule[] = [
  // OpenAI (sk-…, sk-proj-…), Anthropic (sk-ant-…), OpenRouter, DeepSeek, and this server's own (sk-sluice-…, sk-admin-…).
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
  // The header ends where another might start, or a text of nothing but starts would be read again from each.
  { name: 'jwt', pattern: long('eyJ', '(?:(?![-_]eyJ)[\\w-]){10,}\\.[\\w-]{10,}\\.[\\w-]{10,}'), isReal: isJwt },
]

/** Keys and tokens by the form that their issuers give them, from left to right, none overlapping. */
export function findSecrets(text: string): Secret[] {
  const found: Secret[] = findPrivateKeys(text).map(one => ({ ...one, type: 'api_key', name: 'private-key' }))
  for (const { name, pattern, isReal } of RULES) {
    for (const { 0: token, index } of text.matchAll(pattern)) {
      if (isReal && !isReal(token)) continue
      found.push({ type: 'api_key', name, start: index, end: index + token.length })
    }
  }
  return withoutOverlaps(found, ['api_key'])
}

/** Whether a field of an object holds such a secret by its name: `{"SecretAccessKey": "wJalr…"}`. */
export const isAwsSecretField = (key: string, value: string): boolean =>
  AWS_FIELD.test(key) && /^\s*[A-Za-z0-9/+]{40}\s*$/.test(value)
