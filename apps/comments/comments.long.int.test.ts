import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { CATEGORIES } from '#shared/moderation/categories.ts'
import { type Child, startChild } from '#shared/testing/child.ts'
import { createTestDatabase, type TestDatabase } from '#shared/testing/database.ts'
import { ask, connect as connectTo } from '#shared/testing/postgres.ts'
import { startStack } from '#shared/testing/stack.ts'
import { startTcpProxy, type TcpProxy } from '#shared/testing/tcp-proxy.ts'
import type { Script } from '#shared/testing/upstream.ts'

const stack = startStack(() => ({ BACKOFF_BASE_MS: '20', BACKOFF_MAX_MS: '50' }))
let database: TestDatabase
let proxy: TcpProxy
let env: Record<string, string>
let service: Child

beforeAll(async () => {
  const { secret } = await stack.makeKey({ scopes: ['submit', 'read'] })
  ;[database, proxy] = await Promise.all([createTestDatabase(), startTcpProxy(stack.api.port)])
  env = {
    DATABASE_URL: database.url,
    SLUICE_URL: `http://127.0.0.1:${proxy.port}`,
    SLUICE_API_KEY: secret,
    PORT: '0',
    LOG_LEVEL: 'silent',
  }
  service = await startChild('apps/comments/main.ts', env)
})
afterAll(async () => {
  await service?.stop()
  await proxy?.close()
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
/** A new text, and the answer of the model to it. */
function written(script: Script): string {
  const text = `What a photograph, number ${++texts}!`
  stack.upstream.rule(text, script)
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

/** The stored comment. */
async function stored(text: string) {
  const { status, verdict, task_id } = (await sql(`SELECT * FROM comments_app.comments WHERE text = '${text}'`))[0]!
  return { status, verdict, task_id }
}
async function sql(text: string) {
  const db = connectTo(database.url, 1)
  return ask<Record<string, unknown>>(db, text).finally(() => db.close())
}
const eventually = (check: () => unknown) => vi.waitFor(check, { timeout: 20_000, interval: 100 })

/** A reviewer decides. */
async function decide(comment: { id: string }, decision: 'allow' | 'block') {
  const { body } = await stack.call('GET', '/api/v1/reviews?limit=100')
  type Review = { task_id: string; metadata: { comment_id: string } }
  const { task_id } = body.data.find((one: Review) => one.metadata.comment_id === comment.id)
  expect((await stack.call('POST', `/api/v1/reviews/${task_id}`, { body: { decision } })).status).toBe(200)
}

describe('a comment', () => {
  it('that is allowed is visible', async () => {
    const text = written(FINE)
    const { status, body } = await post('allowed', text)
    expect(status).toBe(201)
    const comment = { id: expect.any(String), post_id: 'allowed', author: 'Ann', text, created_at: expect.any(String) }
    expect(body).toEqual({ ...comment, status: 'visible' })
    expect(await list('allowed')).toEqual({ data: [comment], has_more: false, next: null })
    expect(stack.upstream.calls.at(-1)!.prompt).toContain('post allowed')
  })

  it.each([
    ['the model', () => written(verdict({ hate: 0.9 })), ['hate']],
    ['a rule', () => `My SSN is 219-09-9999, ${++texts}`, ['personal-information']],
  ])('that %s blocks is stored and not visible', async (_, write, violations) => {
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

  it('that needs a review is held until a reviewer allows it, and then visible at its place', async () => {
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

  it('that a reviewer blocks is not visible', async () => {
    const text = written(UNSURE)
    const { body } = await post('dropped', text)
    await decide(body, 'block')
    await eventually(async () => expect(await stored(text)).toMatchObject({ status: 'blocked' }))
    expect(await shown('dropped')).toEqual([])
  })

  it('that arrives while Sluice is unavailable is held, and settled later', async () => {
    const [good, bad] = [written(FINE), written(verdict({ spam: 0.9 }))]
    await proxy.close()
    for (const text of [good, bad]) {
      expect((await post('away', text)).status).toBe(202)
      expect(await stored(text)).toEqual({ status: 'held', verdict: null, task_id: null })
    }
    expect((await request('GET', '/health/ready')).status).toBe(200)
    await proxy.open()
    await eventually(async () => expect(await shown('away')).toEqual([good]))
    await eventually(async () => expect(await stored(bad)).toMatchObject({ status: 'blocked' }))
  })

  it('is moderated once, also if the answer is lost', async () => {
    const text = written(FINE)
    proxy.dropResponses(true)
    const { status, body } = await post('lost', text)
    expect(status).toBe(202)
    proxy.dropResponses(false)
    await eventually(async () => expect(await shown('lost')).toEqual([text]))
    const tasks = await stack.sql(`SELECT id FROM tasks WHERE metadata->>'comment_id' = '${body.id}'`)
    expect(tasks).toHaveLength(1)
  })

  it('whose task Sluice has deleted is submitted again', async () => {
    const text = written(UNSURE)
    const { body } = await post('forgotten', text)
    stack.upstream.rule(text, FINE)
    await stack.sql(`DELETE FROM tasks WHERE metadata->>'comment_id' = '${body.id}'`)
    await stack.sql(`DELETE FROM idempotency_keys WHERE key LIKE 'comment-${body.id}%'`)
    await eventually(async () => expect(await shown('forgotten')).toEqual([text]))
  })

  it('that is being moderated when the service stops is held, and settled by another process', async () => {
    const text = written(FINE)
    const gate = stack.upstream.hold({ when: new RegExp(text) })
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
  it('has the comments of one post, newest first, page by page', async () => {
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
    ['an invalid cursor', '?post_id=a&after=b', 'after'],
    ['a limit beyond 100', '?post_id=a&limit=101', 'limit'],
    ['an unknown parameter', '?post_id=a&status=held', 'additional properties'],
    ['U+0000', '?post_id=%00a', 'post_id'],
  ])('with %s is refused', async (_, query, message) =>
    expect(await request('GET', `/api/comments${query}`)).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining(message) },
    }),
  )
})

describe('an invalid comment', () => {
  const good = { post_id: 'bad', author: 'Ann', text: 'Hi' }

  it.each([
    ['no text', { ...good, text: undefined }, "body must have required property 'text'"],
    ['a blank text', { ...good, text: ' \n' }, 'body/text must match pattern'],
    ['10,001 characters', { ...good, text: 'a'.repeat(10_001) }, 'body/text must NOT have more than 10000 characters'],
    ['a number as text', { ...good, text: 7 }, 'body/text must be string'],
    ['an empty author', { ...good, author: '' }, 'body/author must match pattern'],
    ['a status', { ...good, status: 'visible' }, 'body must NOT have additional properties'],
    ['a lone surrogate', { ...good, text: '\ud800' }, 'body/text must match pattern'],
    ['U+0000', { ...good, text: 'a\0' }, 'body/text must match pattern'],
  ])('is refused without a task: %s', async (_, body, message) => {
    const before = stack.upstream.count()
    const answer = await request('POST', '/api/comments', body)
    expect(answer).toMatchObject({ status: 400, body: { message: expect.stringContaining(message) } })
    expect(stack.upstream.count()).toBe(before)
  })

  it('is refused if it is not JSON or too large', async () => {
    expect(await request('POST', '/api/comments', '{')).toMatchObject({ status: 400 })
    const large = { ...good, text: 'a'.repeat(2_000_000) }
    expect(await request('POST', '/api/comments', large)).toMatchObject({ status: 413 })
  })
})

it('without its database the service accepts no comments and is not ready', async () => {
  const own = await createTestDatabase()
  const other = await startChild('apps/comments/main.ts', { ...env, DATABASE_URL: own.url })
  onTestFinished(() => other.stop())
  expect(await request('GET', '/health/ready', undefined, other)).toMatchObject({ status: 200 })
  await own.drop()
  expect(await request('GET', '/health/ready', undefined, other)).toMatchObject({ status: 503 })
  expect(await post('a', written(FINE), other)).toMatchObject({
    status: 503,
    body: { message: 'The database is unavailable.' },
  })
})

it('a database error is logged without the comment', async () => {
  const own = await createTestDatabase()
  let output = ''
  const other = await startChild(
    'apps/comments/main.ts',
    { ...env, DATABASE_URL: own.url, LOG_LEVEL: 'error' },
    text => {
      output += text
    },
  )
  onTestFinished(async () => {
    await other.stop()
    await own.drop()
  })
  const db = connectTo(own.url, 1)
  await ask(db, 'ALTER TABLE comments_app.comments ADD CONSTRAINT refuses_all CHECK (false)').finally(() => db.close())
  const text = written(FINE)
  expect((await post('refused', text, other)).status).toBe(503)
  await eventually(() => expect(output).toContain('refuses_all'))
  expect(output).not.toContain(text)
})

it('SIGTERM may come more than once', async () => {
  const other = await startChild('apps/comments/main.ts', env)
  const exited = once(other.process, 'exit')
  for (let n = 0; n < 3; n++) other.process.kill('SIGTERM')
  expect(await exited).toEqual([0, null])
})

// Last: it opens the breaker.
it('a comment that the model answers in prose is held, and visible only if a reviewer allows it', async () => {
  const text = written({ text: 'I think that is fine.' })
  const { status, body } = await post('prose', text)
  expect(status).toBe(202)
  const noVerdict = { decision: 'review', violations: [] }
  await eventually(async () => expect(await stored(text)).toMatchObject({ status: 'held', verdict: noVerdict }))
  expect(await shown('prose')).toEqual([])
  await decide(body, 'allow')
  await eventually(async () => expect(await shown('prose')).toEqual([text]))
})
