import { type Static, Type } from 'typebox'
import type { Budget } from '#shared/db/budgets.ts'
import { type ApiKey, type KeyChanges, type ListedKey, SCOPES } from '#shared/db/keys.ts'
import { SluiceError } from '#shared/errors.ts'
import { toWire } from '#shared/ids.ts'
import { now } from '#shared/process/clock.ts'
import { budgetJson, budgetSchema } from '../budgets/budget-json.ts'
import { invalidField } from '../http/invalid-field.ts'
import { nullable, timestamp } from '../http/schemas.ts'
import { assertStorable } from '../http/stored-values.ts'
import { parseTimestamp } from '../http/timestamps.ts'

/** What an operator sets for a key. */
const settings = {
  name: Type.String({ minLength: 1, maxLength: 200 }),
  scopes: Type.Array(Type.Enum(SCOPES), { minItems: 1, uniqueItems: true }),
  requests_per_minute: nullable(Type.Integer({ minimum: 1, maximum: 100_000_000 }), { description: 'null: no limit.' }),
  weight: Type.Integer({
    minimum: 1,
    maximum: 1000,
    description: 'The share of the workers that the key gets when several keys have more tasks than can run.',
  }),
  expires_at: nullable(
    Type.String({
      maxLength: 40,
      description: 'ISO 8601 date or time, by default in UTC. The key is refused from then on. null: never.',
    }),
  ),
}

/** Every field may be left out. */
export const keySettings = Type.Partial(Type.Object(settings), { additionalProperties: false })

export const keySchema = Type.Object({
  id: Type.String(),
  ...settings,
  hint: Type.String({ description: 'The last characters of the secret.' }),
  expires_at: nullable(timestamp),
  created_at: timestamp,
  previous_secrets: Type.Array(Type.Object({ hint: Type.String(), expires_at: timestamp }), {
    description: 'Replaced secrets that are still accepted, newest first.',
  }),
  budgets: Type.Array(budgetSchema, { description: 'The budgets with the scope of this key.' }),
})

/** @param budgets of any scope */
export const keyJson = (key: ApiKey & Partial<ListedKey>, budgets: readonly Budget[]) => ({
  id: toWire('key', key.id),
  name: key.name,
  hint: key.hint,
  scopes: key.scopes,
  requests_per_minute: key.requests_per_minute,
  weight: key.weight,
  expires_at: key.expires_at?.toISOString() ?? null,
  created_at: key.created_at.toISOString(),
  previous_secrets: (key.previous_secrets ?? []).map(({ hint, expires_at }) => ({
    hint,
    expires_at: new Date(expires_at).toISOString(),
  })),
  budgets: budgets.filter(one => one.scope === `key:${key.id}`).map(budgetJson),
})

type Settings = Static<typeof keySettings>

/** The settings of a request as they are stored. @throws SluiceError invalid_request, invalid_text */
export function readSettings({ expires_at, ...given }: Settings): KeyChanges {
  assertStorable(given)
  return { ...given, ...(expires_at !== undefined && { expires_at: readExpiry(expires_at) }) }
}

function readExpiry(text: string | null): Date | null {
  if (text === null) return null
  const at = parseTimestamp(text, 'end')
  if (!at) throw invalidField('/expires_at', 'must be an ISO 8601 date or time, such as 2027-01-31T12:00:00Z')
  if (at.getTime() <= now()) throw invalidField('/expires_at', 'must be in the future; delete the key to end it now')
  return at
}

export const webhookSecret = Type.String({
  pattern: '^whsec_',
  description: 'Signs the webhooks of the key (Standard Webhooks).',
})

export const DEFAULT_OVERLAP_SECONDS = 86_400
const MAX_OVERLAP_SECONDS = 7 * 86_400

/** The body of a rotation. */
export const overlapSchema = (description: string) =>
  Type.Object(
    {
      overlap_seconds: Type.Integer({
        minimum: 0,
        maximum: MAX_OVERLAP_SECONDS,
        default: DEFAULT_OVERLAP_SECONDS,
        description,
      }),
    },
    { additionalProperties: false, required: [] },
  )

export const keyNotFound = (wire: string) =>
  new SluiceError('key_not_found', `There is no live key "${wire.slice(0, 100)}".`, {
    context: { field: '/id', id: wire },
  })
