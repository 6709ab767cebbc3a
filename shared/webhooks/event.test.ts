import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { Webhook } from 'standardwebhooks'
import { describe, expect, it } from 'vitest'
import { newId, toWire } from '#shared/ids.ts'
import { eventJson, formatSecret, signedHeaders } from './event.ts'

const SECRET = Buffer.from(Array.from({ length: 32 }, (_, index) => 255 - index * 7))
const event = { id: newId(), type: 'batch.completed', subject_id: newId(), created_at: new Date(1_700_000_000_999) }

/** Verifies a body and its headers with each library; rejects if a library does. */
const LIBRARIES: Record<string, (body: string, headers: Record<string, string>, secret: string) => Promise<unknown>> = {
  openai: (body, headers, webhookSecret) =>
    new OpenAI({ apiKey: 'none', webhookSecret }).webhooks.unwrap(body, headers),
  anthropic: async (body, headers, key) =>
    new Anthropic({ apiKey: 'none' }).beta.webhooks.unwrap(body, { headers, key }),
  standardwebhooks: async (body, headers, secret) => new Webhook(secret).verify(body, headers),
}

describe.each(Object.keys(LIBRARIES))('%s', name => {
  const unwrap = LIBRARIES[name]!

  it('accepts and parses an event', async () => {
    const body = eventJson(event)
    expect(await unwrap(body, signedHeaders(event, body, [SECRET], new Date()), formatSecret(SECRET))).toEqual({
      id: toWire('evt', event.id),
      object: 'event',
      created_at: 1_700_000_000,
      type: 'batch.completed',
      data: { id: toWire('batch', event.subject_id) },
    })
  })

  it('accepts either of two secrets while they overlap, and no third one', async () => {
    const body = eventJson(event)
    const headers = signedHeaders(event, body, [SECRET, Buffer.alloc(32, 1)], new Date())
    for (const secret of [SECRET, Buffer.alloc(32, 1)])
      expect(await unwrap(body, headers, formatSecret(secret))).toMatchObject({ type: 'batch.completed' })
    await expect(unwrap(body, headers, formatSecret(Buffer.alloc(32)))).rejects.toThrow()
  })

  it('rejects events that were changed, are old, or have another signature', async () => {
    const body = eventJson(event)
    const headers = signedHeaders(event, body, [SECRET], new Date())
    const secret = formatSecret(SECRET)
    await expect(unwrap(body.replace('completed', 'failed'), headers, secret)).rejects.toThrow()
    await expect(unwrap(body, { ...headers, 'webhook-id': 'evt_other' }, secret)).rejects.toThrow()
    await expect(unwrap(body, headers, formatSecret(Buffer.alloc(32)))).rejects.toThrow()
    const old = signedHeaders(event, body, [SECRET], new Date(Date.now() - 600_000))
    await expect(unwrap(body, old, secret)).rejects.toThrow()
  })
})

it('keeps the id of an event across attempts, with a new timestamp', () => {
  const body = eventJson(event)
  const [first, second] = [1_700_000_000_000, 1_700_000_060_000].map(at =>
    signedHeaders(event, body, [SECRET], new Date(at)),
  )
  expect(first!['webhook-id']).toBe(second!['webhook-id'])
  expect([first, second].map(one => one!['webhook-timestamp'])).toEqual(['1700000000', '1700000060'])
})
