import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type Child, startChild } from '#shared/testing/child.ts'
import { createTestDatabase, type TestDatabase } from '#shared/testing/database.ts'
import { type Door, startDoor } from '#shared/testing/door.ts'
import { startMachine } from '#shared/testing/machine.ts'
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
  service = await startChild('apps/blog/main.ts', env)
})
afterAll(async () => {
  await service?.stop()
  await door?.shut()
  await database?.drop()
})

let interests = 0
/** One that nobody had before. */
const interest = () => `roasting ${++interests}`
let authors = 0
const somebody = () => `author-${++authors}`

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
const remembered = async (author: string, query = '') =>
  (await request('GET', `/api/suggestions?author=${author}${query}`)).body

describe('suggestions', () => {
  it('are a model’s, and are remembered for their author', async () => {
    const [author, about] = [somebody(), interest()]
    machine.upstream.rule(about, topics('First crack', 'Second crack'))
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
    expect(await remembered(author)).toEqual({ data: body.topics.toReversed(), has_more: false, next: null })
    expect((await remembered('somebody-else')).data).toEqual([])
    expect(machine.upstream.calls.at(-1)!.prompt).toContain('beginners')
  })

  it('are never those that the author had, nor those that he names', async () => {
    const [author, about] = [somebody(), interest()]
    machine.upstream.script({ ...topics('Cooling the beans'), when: about }, { ...topics('Storing them'), when: about })
    await suggest({ author, interests: [about], count: 1 })
    const { body } = await suggest({ author, interests: [about], past_topics: ['Grinding by hand'], count: 1 })
    expect(titlesOf(body.topics)).toEqual(['Storing them'])
    for (const title of ['Cooling the beans', 'Grinding by hand'])
      expect(machine.upstream.calls.at(-1)!.prompt).toContain(title)
  })

  it('come from the cache for another who asks the same, and say so', async () => {
    const about = interest()
    machine.upstream.script({ ...topics('Water'), when: about })
    const wanted = { interests: [about], count: 1 }
    await suggest({ author: somebody(), ...wanted })
    const { body } = await suggest({ author: somebody(), ...wanted })
    expect(body).toMatchObject({ topics: [{ title: 'Water', source: 'cache' }], source: 'cache', quality: 'high' })
  })

  it('asked for twice at the same time are different ones', async () => {
    const [author, about] = [somebody(), interest()]
    const gate = machine.upstream.hold({ when: new RegExp(about) })
    machine.upstream.script({ ...topics('One'), when: about })
    machine.upstream.rule(about, topics('Two'))
    const both = [1, 2].map(() => suggest({ author, interests: [about], count: 1 }))
    await gate.waiting()
    gate.release()
    const found = (await Promise.all(both)).flatMap(one => titlesOf(one.body.topics))
    expect(found.toSorted()).toEqual(['One', 'Two'])
  })

  it('that nobody’s model gave are precomputed, then templates, and say how good that is', async () => {
    const [author, about] = [somebody(), interest()]
    machine.upstream.rule(about, NO)
    const path = '/api/v1/precomputed/blog-topics'
    const result = { topics: [{ title: 'What we always say', angle: 'The one that suits everybody.' }] }
    await machine.call('PUT', path, { body: { result } })
    onTestFinished(async () => void (await machine.call('DELETE', path)))
    const one = { author, interests: [about], count: 1 }
    expect((await suggest(one)).body).toMatchObject({
      topics: [{ title: 'What we always say' }],
      source: 'precomputed',
      quality: 'medium',
    })
    const { body } = await suggest(one)
    expect(body).toMatchObject({ topics: [{ source: 'rules', quality: 'low' }], source: 'rules', quality: 'low' })
    expect((await remembered(author)).data.map((one: Topic) => one.source)).toEqual(['rules', 'precomputed'])
  })

  it('of different worth are together worth what the poorest is', async () => {
    const [author, about] = [somebody(), interest()]
    const gate = machine.upstream.hold({ when: new RegExp(about) })
    machine.upstream.script({ ...topics('One', 'Two'), when: `${about}[^]*artists` })
    machine.upstream.script({ ...topics('Two', 'Three'), when: `${about}[^]*bakers` })
    machine.upstream.rule(about, NO)
    const both = ['artists', 'bakers'].map(audience => suggest({ author, interests: [about], count: 2, audience }))
    await gate.waiting(2)
    gate.release()
    const answers = (await Promise.all(both)).map(one => one.body)
    // Whoever came second had one of the first's topics in his answer, and got a template for it.
    const [whole, mixed] = answers.toSorted((a, b) => a.source.localeCompare(b.source))
    expect(whole).toMatchObject({ source: 'ai', quality: 'high' })
    expect(mixed).toMatchObject({ source: 'rules', quality: 'low', topics: [{ source: 'ai' }, { source: 'rules' }] })
    expect(new Set(answers.flatMap(one => titlesOf(one.topics))).size).toBe(4)
  })

  it('run out, which is said', async () => {
    const [author, about] = [somebody(), interest()]
    machine.upstream.rule(about, topics('The only one'))
    const one = { author, interests: [about], count: 1 }
    expect((await suggest(one)).status).toBe(200)
    // The model repeats itself, which the check of Sluice turns down; the templates are used up one by one.
    let last = await suggest({ ...one, count: 10 })
    for (let n = 0; last.status === 200 && n < 10; n++) last = await suggest({ ...one, count: 2 })
    expect(last).toMatchObject({ status: 503, body: { code: 'no_answer' } })
    const all = titlesOf((await remembered(author, '&limit=100')).data)
    expect(new Set(all).size).toBe(all.length)
  })

  it('belong to a user of the experiment', async () => {
    const about = interest()
    const variants = ['a', 'b'].map(name => ({ name, weight: 1, engine: 'rules' }))
    await machine.call('PUT', '/api/v1/experiments/templates', { body: { kind: 'blog-topics', variants } })
    onTestFinished(async () => void (await machine.call('DELETE', '/api/v1/experiments/templates')))
    machine.upstream.rule(about, topics('A model’s'))
    const { body } = await suggest({ author: somebody(), interests: [about], count: 1 })
    expect(body.source).toBe('rules')
  })

  it('are listed newest first, page by page', async () => {
    const [author, about] = [somebody(), interest()]
    const titles = ['a', 'b', 'c', 'd', 'e']
    machine.upstream.rule(about, topics(...titles))
    await suggest({ author, interests: [about] })
    const found: string[] = []
    for (let after = ''; ; ) {
      const page = await remembered(author, `&limit=2${after}`)
      found.push(...titlesOf(page.data))
      if (!page.has_more) break
      after = `&after=${page.next}`
    }
    expect(found).toEqual(titles.toReversed())
  })
})

describe('an outline', () => {
  it('is a model’s, then remembered', async () => {
    const topic = interest()
    machine.upstream.script({ ...outline, when: topic })
    const wanted = { topic, audience: 'beginners', length: 'short' }
    const { status, body } = await request('POST', '/api/outlines', wanted)
    expect(status).toBe(200)
    expect(body).toEqual({ outline: JSON.parse(outline.text!), source: 'ai', quality: 'high' })
    const again = await request('POST', '/api/outlines', wanted)
    expect(again.body).toEqual({ ...body, source: 'cache' })
  })

  it('that no model gave is a template, with as many sections as the length wants, and says so', async () => {
    const topic = interest()
    machine.upstream.rule(topic, NO)
    const { body } = await request('POST', '/api/outlines', { topic, length: 'long', points: ['first crack'] })
    expect(body).toMatchObject({ source: 'rules', quality: 'low' })
    expect(body.outline.sections.length).toBeGreaterThanOrEqual(8)
    expect(JSON.stringify(body.outline)).toContain('first crack')
  })
})

describe('what cannot be asked', () => {
  const good = { author: 'Ann', interests: ['coffee'] }

  it.each([
    ['no author', { ...good, author: undefined }, 'author', 'is missing'],
    ['a blank one', { ...good, author: ' ' }, 'author', 'must be one line that is not blank'],
    ['no interests', { ...good, interests: [] }, 'interests', 'must NOT have fewer than 1 items'],
    ['two lines as one', { ...good, interests: ['a\nb'] }, 'interests/0', 'must be one line that is not blank'],
    ['an interest without a word', { ...good, interests: ['?'] }, 'interests/0', null],
    ['11 topics', { ...good, count: 11 }, 'count', 'must be <= 10'],
    ['no topic', { ...good, count: 0 }, 'count', 'must be >= 1'],
    ['a count in words', { ...good, count: '5' }, 'count', 'must be integer'],
    ['something unknown', { ...good, source: 'ai' }, 'source', 'is not known'],
    ['half a character', { ...good, interests: ['\ud800'] }, 'interests', 'holds characters that are none'],
  ])('suggestions with %s', async (_, body, field, complaint) => {
    const before = machine.upstream.count()
    const answer = await suggest(body)
    expect(answer).toMatchObject({ status: 400, body: { field } })
    if (complaint) expect(answer.body.message).toBe(`${field} ${complaint}`)
    expect(machine.upstream.count()).toBe(before)
  })

  it.each([
    ['no topic', {}, 'topic'],
    ['a topic without a word', { topic: '?!' }, 'topic'],
    ['another length', { topic: 'a', length: 'huge' }, 'length'],
    ['a topic of 201 characters', { topic: 'a'.repeat(201) }, 'topic'],
    ['U+0000', { topic: 'a\0' }, 'topic'],
  ])('an outline with %s', async (_, body, field) =>
    expect(await request('POST', '/api/outlines', body)).toMatchObject({ status: 400, body: { field } }),
  )

  it.each([
    ['nobody’s', '', 'author'],
    ['after no cursor', '?author=a&after=b', 'after'],
    ['101 at a time', '?author=a&limit=101', 'limit'],
  ])('a list %s', async (_, query, field) =>
    expect(await request('GET', `/api/suggestions${query}`)).toMatchObject({ status: 400, body: { field } }),
  )

  it('no JSON, too much of it, nothing that there is', async () => {
    expect(await suggest('{' as never)).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
    expect(await suggest({ ...good, audience: 'a'.repeat(200_000) })).toMatchObject({ status: 413 })
    expect(await request('GET', '/api/nothing')).toMatchObject({ status: 404, body: { code: 'not_found' } })
  })
})

describe('when something is away', () => {
  it('Sluice: it says so, and still knows what it suggested', async () => {
    const [author, about] = [somebody(), interest()]
    machine.upstream.rule(about, topics('Before'))
    await suggest({ author, interests: [about], count: 1 })
    await door.shut()
    onTestFinished(async () => void (await door.open()))
    for (const [path, body] of [
      ['/api/suggestions', { author, interests: [about] }],
      ['/api/outlines', { topic: about }],
    ] as const) {
      const { status, headers, body: told } = await request('POST', path, body)
      expect({ status, told }).toMatchObject({ status: 503, told: { code: 'sluice_away', message: /Sluice/ } })
      expect(headers.get('retry-after')).toMatch(/^\d+$/)
    }
    expect(titlesOf((await remembered(author)).data)).toEqual(['Before'])
    expect((await request('GET', '/health/ready')).status).toBe(200)
  })

  it('its key: it says no more than that', async () => {
    const other = await startChild('apps/blog/main.ts', { ...env, SLUICE_API_KEY: 'sk-nobody' })
    onTestFinished(() => other.stop())
    const told = await suggest({ author: somebody(), interests: ['a'] }, other)
    expect(told).toMatchObject({ status: 503, body: { code: 'sluice_away' } })
  })

  it('its database: nothing is asked', async () => {
    const own = await createTestDatabase()
    const other = await startChild('apps/blog/main.ts', { ...env, DATABASE_URL: own.url })
    onTestFinished(() => other.stop())
    await own.drop()
    const away = { status: 503, body: { parts: { postgres: 'away' } } }
    expect(await request('GET', '/health/ready', undefined, other)).toMatchObject(away)
    const before = machine.upstream.count()
    const told = await suggest({ author: somebody(), interests: [interest()] }, other)
    expect(told).toMatchObject({ status: 503, body: { code: 'unavailable' } })
    expect(machine.upstream.count()).toBe(before)
  })

  it('itself, as it stops: who waits is told, and the answer is there for the next', async () => {
    const about = interest()
    machine.upstream.rule(about, topics('Late'))
    const gate = machine.upstream.hold({ when: new RegExp(about) })
    const other = await startChild('apps/blog/main.ts', env)
    const answer = suggest({ author: somebody(), interests: [about], count: 1 }, other)
    await gate.waiting()
    const exited = once(other.process, 'exit')
    await other.stop()
    expect(await exited).toEqual([0, null])
    expect((await answer).status).toBe(503)
    gate.release()
    const { body } = await suggest({ author: somebody(), interests: [about], count: 1 })
    expect(body).toMatchObject({ topics: [{ title: 'Late' }], source: 'cache' })
    expect(machine.upstream.count(new RegExp(about))).toBe(1)
  })
})

it('its metrics count answers by who gave them', async () => {
  const text = await (await fetch(`http://127.0.0.1:${service.port}/metrics`)).text()
  for (const [source, quality] of [
    ['ai', 'high'],
    ['cache', 'high'],
    ['precomputed', 'medium'],
    ['rules', 'low'],
  ]) {
    const labels = `kind="blog-topics",source="${source}",quality="${quality}"`
    expect(text).toMatch(new RegExp(`^blog_answers_total\\{${labels}\\} [1-9]`, 'm'))
  }
  expect(text).toMatch(/^blog_answer_seconds_count\{kind="blog-outline",source="ai"\} [1-9]/m)
  expect(text).toMatch(/^blog_unanswered_total\{kind="blog-topics",code="sluice_away"\} [1-9]/m)
  expect(text).toMatch(/^blog_topics_repeated_total [1-9]/m)
})
