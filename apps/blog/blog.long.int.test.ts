import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type Child, startChild } from '#shared/testing/child.ts'
import { createTestDatabase, type TestDatabase } from '#shared/testing/database.ts'
import { sharedStack } from '#shared/testing/stack.ts'
import { startTcpProxy, type TcpProxy } from '#shared/testing/tcp-proxy.ts'
import type { Script } from '#shared/testing/upstream.ts'

const stack = sharedStack()
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
  service = await startChild('apps/blog/main.ts', env)
})
afterAll(async () => {
  await service?.stop()
  await proxy?.close()
  await database?.drop()
})

let interests = 0
/** A new interest. */
const interest = () => `roasting ${++interests}`
let authors = 0
const newAuthor = () => `author-${++authors}`

const topics = (...titles: string[]): Script => ({
  text: JSON.stringify({ topics: titles.map(title => ({ title, angle: `All about ${title}.` })) }),
})
const outline: Script = {
  text: JSON.stringify({
    title: 'Roasting at home',
    sections: ['Why', 'How', 'What next'].map(heading => ({ heading, points: ['It is said.'] })),
  }),
}
const NO: Script = { text: 'No.', stop: 'refusal' }

async function request(method: string, path: string, body?: unknown, { port } = service) {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    ...(body !== undefined && {
      body: typeof body === 'string' ? body : JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    }),
  })
  // biome-ignore lint/suspicious/noExplicitAny: the documents under test.
  return { status: response.status, headers: response.headers, body: (await response.json()) as any }
}
const suggest = (body: object, to = service) => request('POST', '/api/suggestions', body, to)
type Topic = { id: string; title: string; source: string; quality: string }
const titlesOf = (topics: Topic[]) => topics.map(one => one.title)
const listed = async (author: string, query = '') =>
  (await request('GET', `/api/suggestions?author=${author}${query}`)).body

describe('suggestions', () => {
  it('come from the model and are stored for their author', async () => {
    const [author, about] = [newAuthor(), interest()]
    stack.upstream.rule(about, topics('First crack', 'Second crack'))
    const { status, body } = await suggest({ author, interests: [about], count: 2, audience: 'beginners' })
    expect(status).toBe(200)
    const topic = (title: string) => ({
      id: expect.any(String),
      title,
      angle: `All about ${title}.`,
      source: 'ai',
      quality: 'high',
      created_at: expect.any(String),
    })
    expect(body).toEqual({ topics: ['First crack', 'Second crack'].map(topic), source: 'ai', quality: 'high' })
    expect(await listed(author)).toEqual({ data: body.topics.toReversed(), has_more: false, next: null })
    expect((await listed('another')).data).toEqual([])
    expect(stack.upstream.calls.at(-1)!.prompt).toContain('beginners')
  })

  it('are neither earlier topics of the author nor the past topics of the request', async () => {
    const [author, about] = [newAuthor(), interest()]
    stack.upstream.script({ ...topics('Cooling the beans'), when: about }, { ...topics('Storing them'), when: about })
    await suggest({ author, interests: [about], count: 1 })
    const { body } = await suggest({ author, interests: [about], past_topics: ['Grinding by hand'], count: 1 })
    expect(titlesOf(body.topics)).toEqual(['Storing them'])
    for (const title of ['Cooling the beans', 'Grinding by hand'])
      expect(stack.upstream.calls.at(-1)!.prompt).toContain(title)
  })

  it('of another author for the same request come from the cache, which is their source', async () => {
    const about = interest()
    stack.upstream.script({ ...topics('Water'), when: about })
    const wanted = { interests: [about], count: 1 }
    await suggest({ author: newAuthor(), ...wanted })
    const { body } = await suggest({ author: newAuthor(), ...wanted })
    expect(body).toMatchObject({ topics: [{ title: 'Water', source: 'cache' }], source: 'cache', quality: 'high' })
  })

  it('of two concurrent requests are different', async () => {
    const [author, about] = [newAuthor(), interest()]
    const gate = stack.upstream.hold({ when: new RegExp(about) })
    stack.upstream.script({ ...topics('One'), when: about })
    stack.upstream.rule(about, topics('Two'))
    const both = [1, 2].map(() => suggest({ author, interests: [about], count: 1 }))
    await gate.waiting()
    gate.release()
    const found = (await Promise.all(both)).flatMap(one => titlesOf(one.body.topics))
    expect(found.toSorted()).toEqual(['One', 'Two'])
  })

  it('without an answer of the model are precomputed, then templates, with their source and quality', async () => {
    const [author, about] = [newAuthor(), interest()]
    stack.upstream.rule(about, NO)
    const path = '/api/v1/precomputed/blog-topics'
    const result = { topics: [{ title: 'What we always say', angle: 'The one that suits everybody.' }] }
    await stack.call('PUT', path, { body: { result } })
    onTestFinished(async () => void (await stack.call('DELETE', path)))
    const one = { author, interests: [about], count: 1 }
    expect((await suggest(one)).body).toMatchObject({
      topics: [{ title: 'What we always say' }],
      source: 'precomputed',
      quality: 'medium',
    })
    const { body } = await suggest(one)
    expect(body).toMatchObject({ topics: [{ source: 'rules', quality: 'low' }], source: 'rules', quality: 'low' })
    expect((await listed(author)).data.map((one: Topic) => one.source)).toEqual(['rules', 'precomputed'])
  })

  it('of different quality have together the lowest quality', async () => {
    const [author, about] = [newAuthor(), interest()]
    const gate = stack.upstream.hold({ when: new RegExp(about) })
    stack.upstream.script({ ...topics('One', 'Two'), when: `${about}[^]*artists` })
    stack.upstream.script({ ...topics('Two', 'Three'), when: `${about}[^]*bakers` })
    stack.upstream.rule(about, NO)
    const both = ['artists', 'bakers'].map(audience => suggest({ author, interests: [about], count: 2, audience }))
    await gate.waiting(2)
    gate.release()
    const answers = (await Promise.all(both)).map(one => one.body)
    // The second answer contained a topic of the first, which was replaced by a template.
    const [whole, mixed] = answers.toSorted((a, b) => a.source.localeCompare(b.source))
    expect(whole).toMatchObject({ source: 'ai', quality: 'high' })
    expect(mixed).toMatchObject({ source: 'rules', quality: 'low', topics: [{ source: 'ai' }, { source: 'rules' }] })
    expect(new Set(answers.flatMap(one => titlesOf(one.topics))).size).toBe(4)
  })

  it('run out with the code no_answer', async () => {
    const [author, about] = [newAuthor(), interest()]
    stack.upstream.rule(about, topics('The only one'))
    const one = { author, interests: [about], count: 1 }
    expect((await suggest(one)).status).toBe(200)
    // The model repeats itself, which the check of Sluice turns down; the templates are used up one by one.
    let last = await suggest({ ...one, count: 10 })
    for (let n = 0; last.status === 200 && n < 10; n++) last = await suggest({ ...one, count: 2 })
    expect(last).toMatchObject({ status: 503, body: { code: 'no_answer' } })
    const all = titlesOf((await listed(author, '&limit=100')).data)
    expect(new Set(all).size).toBe(all.length)
  })

  it('take part in experiments as their author', async () => {
    const about = interest()
    const variants = ['a', 'b'].map(name => ({ name, weight: 1, engine: 'rules' }))
    await stack.call('PUT', '/api/v1/experiments/templates', { body: { kind: 'blog-topics', variants } })
    onTestFinished(async () => void (await stack.call('DELETE', '/api/v1/experiments/templates')))
    stack.upstream.rule(about, topics('A model’s'))
    const { body } = await suggest({ author: newAuthor(), interests: [about], count: 1 })
    expect(body.source).toBe('rules')
  })

  it('are listed newest first, page by page', async () => {
    const [author, about] = [newAuthor(), interest()]
    const titles = ['a', 'b', 'c', 'd', 'e']
    stack.upstream.rule(about, topics(...titles))
    await suggest({ author, interests: [about] })
    const found: string[] = []
    for (let after = ''; ; ) {
      const page = await listed(author, `&limit=2${after}`)
      found.push(...titlesOf(page.data))
      if (!page.has_more) break
      after = `&after=${page.next}`
    }
    expect(found).toEqual(titles.toReversed())
  })
})

describe('an outline', () => {
  it('comes from the model, then from the cache', async () => {
    const topic = interest()
    stack.upstream.script({ ...outline, when: topic })
    const wanted = { topic, audience: 'beginners', length: 'short' }
    const { status, body } = await request('POST', '/api/outlines', wanted)
    expect(status).toBe(200)
    expect(body).toEqual({ outline: JSON.parse(outline.text!), source: 'ai', quality: 'high' })
    const again = await request('POST', '/api/outlines', wanted)
    expect(again.body).toEqual({ ...body, source: 'cache' })
  })

  it('without an answer of the model is a template of the requested length', async () => {
    const topic = interest()
    stack.upstream.rule(topic, NO)
    const { body } = await request('POST', '/api/outlines', { topic, length: 'long', points: ['first crack'] })
    expect(body).toMatchObject({ source: 'rules', quality: 'low' })
    expect(body.outline.sections.length).toBeGreaterThanOrEqual(8)
    expect(JSON.stringify(body.outline)).toContain('first crack')
  })
})

describe('an invalid request', () => {
  const good = { author: 'Ann', interests: ['coffee'] }

  it.each([
    ['no author', { ...good, author: undefined }, "body must have required property 'author'"],
    ['a blank author', { ...good, author: ' ' }, 'body/author must match pattern'],
    ['no interests', { ...good, interests: [] }, 'body/interests must NOT have fewer than 1 items'],
    ['an interest of two lines', { ...good, interests: ['a\nb'] }, 'body/interests/0 must match pattern'],
    ['an interest without a word', { ...good, interests: ['?'] }, 'interests'],
    ['11 topics', { ...good, count: 11 }, 'body/count must be <= 10'],
    ['no topic', { ...good, count: 0 }, 'body/count must be >= 1'],
    ['a count in words', { ...good, count: '5' }, 'body/count must be integer'],
    ['an unknown field', { ...good, source: 'ai' }, 'body must NOT have additional properties'],
    ['a lone surrogate', { ...good, interests: ['\ud800'] }, 'body/interests/0 must match pattern'],
  ])('suggestions with %s', async (_, body, message) => {
    const before = stack.upstream.count()
    expect(await suggest(body)).toMatchObject({ status: 400, body: { message: expect.stringContaining(message) } })
    expect(stack.upstream.count()).toBe(before)
  })

  it.each([
    ['no topic', {}, 'topic'],
    ['a topic without a word', { topic: '?!' }, 'topic'],
    ['an unknown length', { topic: 'a', length: 'huge' }, 'length'],
    ['a topic of 201 characters', { topic: 'a'.repeat(201) }, 'topic'],
    ['U+0000', { topic: 'a\0' }, 'topic'],
  ])('an outline with %s', async (_, body, message) =>
    expect(await request('POST', '/api/outlines', body)).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining(message) },
    }),
  )

  it.each([
    ['without an author', '', 'author'],
    ['with an invalid cursor', '?author=a&after=b', 'after'],
    ['of 101 suggestions', '?author=a&limit=101', 'limit'],
  ])('a list %s', async (_, query, message) =>
    expect(await request('GET', `/api/suggestions${query}`)).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining(message) },
    }),
  )

  it('that is not JSON or too large', async () => {
    expect(await suggest('{' as never)).toMatchObject({ status: 400 })
    expect(await suggest({ ...good, audience: 'a'.repeat(2_000_000) })).toMatchObject({ status: 413 })
  })
})

describe('without', () => {
  it('Sluice the service answers sluice_away and lists earlier suggestions', async () => {
    const [author, about] = [newAuthor(), interest()]
    stack.upstream.rule(about, topics('Before'))
    await suggest({ author, interests: [about], count: 1 })
    await proxy.close()
    onTestFinished(async () => void (await proxy.open()))
    for (const [path, body] of [
      ['/api/suggestions', { author, interests: [about] }],
      ['/api/outlines', { topic: about }],
    ] as const) {
      const { status, headers, body: error } = await request('POST', path, body)
      expect({ status, error }).toMatchObject({ status: 503, error: { code: 'sluice_away', message: /Sluice/ } })
      expect(headers.get('retry-after')).toMatch(/^\d+$/)
    }
    expect(titlesOf((await listed(author)).data)).toEqual(['Before'])
    expect((await request('GET', '/health/ready')).status).toBe(200)
  })

  it('a valid key the service answers sluice_away and nothing about the key', async () => {
    const other = await startChild('apps/blog/main.ts', { ...env, SLUICE_API_KEY: 'sk-unknown' })
    onTestFinished(() => other.stop())
    const answer = await suggest({ author: newAuthor(), interests: ['a'] }, other)
    expect(answer).toMatchObject({ status: 503, body: { code: 'sluice_away' } })
    expect(JSON.stringify(answer.body)).not.toContain('key')
  })

  it('its database the service submits no task and is not ready', async () => {
    const own = await createTestDatabase()
    const other = await startChild('apps/blog/main.ts', { ...env, DATABASE_URL: own.url })
    onTestFinished(() => other.stop())
    await own.drop()
    expect(await request('GET', '/health/ready', undefined, other)).toMatchObject({ status: 503 })
    const before = stack.upstream.count()
    const answer = await suggest({ author: newAuthor(), interests: [interest()] }, other)
    expect(answer).toMatchObject({ status: 503, body: { code: 'unavailable' } })
    expect(stack.upstream.count()).toBe(before)
  })

  it('the time to answer, because it stops, the service answers 503; the next request gets the answer from the cache', async () => {
    const about = interest()
    stack.upstream.rule(about, topics('Late'))
    const gate = stack.upstream.hold({ when: new RegExp(about) })
    const other = await startChild('apps/blog/main.ts', env)
    const answer = suggest({ author: newAuthor(), interests: [about], count: 1 }, other)
    await gate.waiting()
    const exited = once(other.process, 'exit')
    await other.stop()
    expect(await exited).toEqual([0, null])
    expect((await answer).status).toBe(503)
    gate.release()
    const { body } = await suggest({ author: newAuthor(), interests: [about], count: 1 })
    expect(body).toMatchObject({ topics: [{ title: 'Late' }], source: 'cache' })
    expect(stack.upstream.count(new RegExp(about))).toBe(1)
  })
})
