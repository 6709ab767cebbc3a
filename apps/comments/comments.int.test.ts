import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { CATEGORIES } from '#shared/moderation/categories.ts'
import { type Child, startChild } from '#shared/testing/child.ts'
import { createTestDatabase, type TestDatabase } from '#shared/testing/database.ts'
import { type Door, startDoor } from '#shared/testing/door.ts'
import { startMachine } from '#shared/testing/machine.ts'
import { ask, connect as connectTo } from '#shared/testing/postgres.ts'
import type { Script } from '#shared/testing/upstream.ts'

const machine = startMachine(() => ({ BACKOFF_BASE_MS: '20', BACKOFF_MAX_MS: '50' }))
let database: TestDatabase
let door: Door
let env: Record<string, string>
let service: Child

beforeAll(async () => {
  const { secret } = await machine.makeKey({ scopes: ['submit', 'read'] })
  ;[database, door] = await Promise.all([createTestDatabase(), startDoor(machine.api.port)])
  env = {
    DATABASE_URL: database.url,
    SLUICE_URL: `http://127.0.0.1:${door.port}`,
    SLUICE_API_KEY: secret,
    PORT: '0',
    LOG_LEVEL: 'silent',
  }
  service = await startChild('apps/comments/main.ts', env)
})
afterAll(async () => {
  await service?.stop()
  await door?.shut()
  await database?.drop()
})

const verdict = (scores: Record<string, number> = {}): Script => ({
  text: JSON.stringify({
    verdicts: [
      {
        scores: Object.fromEntries(CATEGORIES.map(name => [name, scores[name] ?? 0])),
        confidence: 0.95,
        reason: 'Read it.',
      },
    ],
  }),
})
const FINE = verdict()
const UNSURE = verdict({ hate: 0.6 })

let texts = 0
/** A text that nobody wrote before, and what a model says to it. */
function written(script: Script): string {
  const text = `What a photograph, number ${++texts}!`
  machine.upstream.rule(text, script)
  return text
}

async function request(method: string, path: string, body?: unknown, { port } = service) {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    ...(body !== undefined && {
      body: typeof body === 'string' ? body : JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    }),
  })
  // biome-ignore lint/suspicious/noExplicitAny: the documents under test.
  return { status: response.status, body: (await response.json()) as any }
}
const post = (post_id: string, text: string, to = service) =>
  request('POST', '/api/comments', { post_id, author: 'Ann', text }, to)
const list = async (post_id: string, query = '') =>
  (await request('GET', `/api/comments?post_id=${post_id}${query}`)).body
const shown = async (post_id: string): Promise<string[]> =>
  (await list(post_id)).data.map((one: { text: string }) => one.text)

/** As it is stored. */
async function stored(text: string) {
  const { status, verdict, task_id } = (await sql(`SELECT * FROM comments_app.comments WHERE text = '${text}'`))[0]!
  return { status, verdict, task_id }
}
async function sql(text: string) {
  const db = connectTo(database.url, 1)
  return ask<Record<string, unknown>>(db, text).finally(() => db.close())
}
const eventually = (check: () => unknown) => vi.waitFor(check, { timeout: 20_000, interval: 100 })

/** A person decides what Sluice has left to people. */
async function decide(comment: { id: string }, decision: 'allow' | 'block') {
  const { body } = await machine.call('GET', '/api/v1/reviews?limit=100')
  type Review = { task_id: string; metadata: { comment_id: string } }
  const { task_id } = body.data.find((one: Review) => one.metadata.comment_id === comment.id)
  expect((await machine.call('POST', `/api/v1/reviews/${task_id}`, { body: { decision } })).status).toBe(200)
}

describe('a comment', () => {
  it('that is allowed is shown', async () => {
    const text = written(FINE)
    const { status, body } = await post('allowed', text)
    expect(status).toBe(201)
    const comment = { id: expect.any(String), post_id: 'allowed', author: 'Ann', text, created_at: expect.any(String) }
    expect(body).toEqual({ ...comment, status: 'visible' })
    expect(await list('allowed')).toEqual({ data: [comment], has_more: false, next: null })
    expect(machine.upstream.calls.at(-1)!.prompt).toContain('post allowed')
  })

  it.each([
    ['a model', () => written(verdict({ hate: 0.9 })), ['hate']],
    ['rules', () => `My SSN is 219-09-9999, ${++texts}`, ['personal-information']],
  ])('that %s blocks is kept, and not shown', async (_, write, violations) => {
    const text = write()
    const { status, body } = await post('blocked', text)
    expect(status).toBe(422)
    expect(body).toEqual({
      code: 'blocked',
      message: expect.any(String),
      violations,
      reason: expect.stringMatching(/./),
    })
    expect(await stored(text)).toMatchObject({ status: 'blocked', verdict: { decision: 'block', violations } })
    expect(await shown('blocked')).toEqual([])
  })

  it('that a model is not sure of is held until a person allows it, and comes in its place', async () => {
    const [first, second, third] = [written(FINE), written(UNSURE), written(FINE)]
    await post('unsure', first)
    const { status, body } = await post('unsure', second)
    expect(status).toBe(202)
    expect(body).toMatchObject({ status: 'held', text: second })
    await post('unsure', third)
    expect(await shown('unsure')).toEqual([third, first])
    await decide(body, 'allow')
    await eventually(async () => expect(await shown('unsure')).toEqual([third, second, first]))
  })

  it('that a person blocks is dropped', async () => {
    const text = written(UNSURE)
    const { body } = await post('dropped', text)
    await decide(body, 'block')
    await eventually(async () => expect(await stored(text)).toMatchObject({ status: 'blocked' }))
    expect(await shown('dropped')).toEqual([])
  })

  it('that Sluice is not there for is held, and settled when it is back', async () => {
    const [good, bad] = [written(FINE), written(verdict({ spam: 0.9 }))]
    await door.shut()
    for (const text of [good, bad]) {
      expect((await post('away', text)).status).toBe(202)
      expect(await stored(text)).toEqual({ status: 'held', verdict: null, task_id: null })
    }
    expect((await request('GET', '/health/ready')).status).toBe(200)
    await door.open()
    await eventually(async () => expect(await shown('away')).toEqual([good]))
    await eventually(async () => expect(await stored(bad)).toMatchObject({ status: 'blocked' }))
  })

  it('is judged once, also if the answer is lost', async () => {
    const text = written(FINE)
    door.swallow(true)
    const { status, body } = await post('lost', text)
    expect(status).toBe(202)
    door.swallow(false)
    await eventually(async () => expect(await shown('lost')).toEqual([text]))
    const tasks = await machine.sql(`SELECT id FROM tasks WHERE metadata->>'comment_id' = '${body.id}'`)
    expect(tasks).toHaveLength(1)
  })

  it('whose task Sluice has forgotten is asked about anew', async () => {
    const text = written(UNSURE)
    const { body } = await post('forgotten', text)
    machine.upstream.rule(text, FINE)
    await machine.sql(`DELETE FROM tasks WHERE metadata->>'comment_id' = '${body.id}'`)
    await machine.sql(`DELETE FROM idempotency_keys WHERE key LIKE 'comment-${body.id}%'`)
    await eventually(async () => expect(await shown('forgotten')).toEqual([text]))
  })

  it('that is being judged when the service stops is held, and another process settles it', async () => {
    const text = written(FINE)
    const gate = machine.upstream.hold({ when: new RegExp(text) })
    const other = await startChild('apps/comments/main.ts', env)
    const answer = post('stopped', text, other)
    await gate.waiting()
    const exited = once(other.process, 'exit')
    const stopped = other.stop()
    expect((await answer).status).toBe(202)
    gate.release()
    await stopped
    expect(await exited).toEqual([0, null])
    await eventually(async () => expect(await shown('stopped')).toEqual([text]))
  })
})

describe('a list', () => {
  it('is of one post, newest first, and goes on after its cursor', async () => {
    const written7 = Array.from({ length: 5 }, () => written(FINE))
    for (const text of written7) await post('list', text)
    await post('another', written(FINE))
    const found: string[] = []
    const sizes: number[] = []
    for (let after = ''; ; ) {
      const page = await list('list', `&limit=2${after}`)
      found.push(...page.data.map((one: { text: string }) => one.text))
      sizes.push(page.data.length)
      if (!page.has_more) break
      after = `&after=${page.next}`
    }
    expect(found).toEqual(written7.toReversed())
    expect(sizes).toEqual([2, 2, 1])
  })

  it.each([
    ['no post', '', 'post_id'],
    ['a cursor that is none', '?post_id=a&after=b', 'after'],
    ['a limit beyond 100', '?post_id=a&limit=101', 'limit'],
    ['something unknown', '?post_id=a&status=held', 'status'],
    ['a post of no characters that are stored', '?post_id=%00a', 'post_id'],
  ])('with %s is turned down', async (_, query, field) => {
    const { status, body } = await request('GET', `/api/comments${query}`)
    expect(status).toBe(400)
    expect(body).toMatchObject({ field, message: expect.stringContaining(field) })
  })
})

describe('what is no comment', () => {
  const good = { post_id: 'bad', author: 'Ann', text: 'Hi' }

  it.each([
    ['no text', { ...good, text: undefined }, 'text', 'is missing'],
    ['a blank one', { ...good, text: ' \n' }, 'text', 'must not be blank'],
    ['10,001 characters', { ...good, text: 'a'.repeat(10_001) }, 'text', 'must NOT have more than 10000 characters'],
    ['a text that is a number', { ...good, text: 7 }, 'text', 'must be string'],
    ['no author', { ...good, author: '' }, 'author', 'must NOT have fewer than 1 characters'],
    ['a status of its own', { ...good, status: 'visible' }, 'status', 'is not known'],
    ['half a character', { ...good, text: '\ud800' }, 'text', 'holds characters that are none'],
  ])('is turned down, and nobody is asked: %s', async (_, body, field, complaint) => {
    const before = machine.upstream.count()
    const answer = await request('POST', '/api/comments', body)
    expect(answer.status).toBe(400)
    expect(answer.body).toMatchObject({ field, message: `${field} ${complaint}` })
    expect(machine.upstream.count()).toBe(before)
  })

  it('is turned down if it is not JSON, or too much of it', async () => {
    expect(await request('POST', '/api/comments', '{')).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    })
    const much = { ...good, text: 'a'.repeat(200_000) }
    expect(await request('POST', '/api/comments', much)).toMatchObject({
      status: 413,
      body: { code: 'body_too_large' },
    })
    expect(await request('GET', '/api/nothing')).toMatchObject({ status: 404, body: { code: 'not_found' } })
  })
})

it('without its database nothing is taken, and it says so', async () => {
  const own = await createTestDatabase()
  const other = await startChild('apps/comments/main.ts', { ...env, DATABASE_URL: own.url })
  onTestFinished(() => other.stop())
  expect(await request('GET', '/health/ready', undefined, other)).toMatchObject({ status: 200 })
  await own.drop()
  const away = { status: 503, body: { parts: { postgres: 'away' } } }
  expect(await request('GET', '/health/ready', undefined, other)).toMatchObject(away)
  expect(await request('GET', '/health/live', undefined, other)).toMatchObject({ status: 200 })
  expect(await post('a', written(FINE), other)).toMatchObject({ status: 503, body: { code: 'unavailable' } })
})

it('its metrics count comments by status, and what is held', async () => {
  await post('counted', written(UNSURE))
  const text = await (await fetch(`http://127.0.0.1:${service.port}/metrics`)).text()
  const [row] = await sql(`SELECT count(*)::int AS held FROM comments_app.comments WHERE status = 'held'`)
  expect(text).toContain(`\ncomments_held ${row!.held}\n`)
  for (const status of ['visible', 'held', 'blocked']) {
    expect(text).toMatch(new RegExp(`^comments_total\\{status="${status}"\\} [1-9]`, 'm'))
    expect(text).toMatch(new RegExp(`^comments_moderation_seconds_count\\{status="${status}"\\} [1-9]`, 'm'))
  }
})

// Last: it opens the breaker.
it('that a model answers in prose about is held, and shown only if a person allows it', async () => {
  const text = written({ text: 'I think that is fine.' })
  const { status, body } = await post('prose', text)
  expect(status).toBe(202)
  const noVerdict = { decision: 'review', violations: [] }
  await eventually(async () => expect(await stored(text)).toMatchObject({ status: 'held', verdict: noVerdict }))
  expect(await shown('prose')).toEqual([])
  await decide(body, 'allow')
  await eventually(async () => expect(await shown('prose')).toEqual([text]))
})
