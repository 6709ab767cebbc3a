import { describe, expect, it } from 'vitest'
import { NO_ANSWER } from '#shared/jobs/ask.ts'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()

const RETURNS = 'Anything can be returned within 30 days of delivery. Worn shoes are the exception.'
const SHIPPING = 'We ship within two working days, to all of Europe.'

let names = 0
async function collection(
  documents: Record<string, string> = {},
  { key, language = 'english' }: { key?: string; language?: string } = {},
) {
  const name = `collection-${++names}`
  const how = key === undefined ? {} : { key }
  const { status } = await stack.call('PUT', `/api/v1/collections/${name}`, { body: { language }, ...how })
  expect(status).toBe(200)
  const body = Object.entries(documents).map(([id, text]) => ({ id, text }))
  if (body.length > 0)
    expect((await stack.call('POST', `/api/v1/collections/${name}/documents`, { body, ...how })).status).toBe(200)
  return { name, path: `/api/v1/collections/${name}` }
}
async function found(path: string, q: string, more = ''): Promise<string[]> {
  const { status, body } = await stack.call('GET', `${path}/search?q=${encodeURIComponent(q)}${more}`)
  expect(status).toBe(200)
  return body.data.map((one: { id: string }) => one.id)
}
async function ask(input: object, { key, options = {} }: { key?: string; options?: object } = {}) {
  return await stack.call('POST', '/api/v1/tasks/ask', {
    body: { input, options },
    headers: { prefer: 'wait=30' },
    ...(key !== undefined && { key }),
  })
}
const inputOf = async (task: { task_id: string }) =>
  (await stack.call('GET', `/api/v1/tasks/${task.task_id}/input`)).body.input
const cited = (...citations: [id: string, quote: string][]) =>
  JSON.stringify({ answer: 'For 30 days.', answered: true, citations: citations.map(([id, quote]) => ({ id, quote })) })

describe('a collection', () => {
  it('is created, read, listed in pages and deleted with its documents', async () => {
    const { name, path } = await collection({ returns: RETURNS, shipping: SHIPPING }, { language: 'german' })
    const expected = { name, language: 'german', documents: 2, passages: 2 }
    expect((await stack.call('GET', path)).body).toMatchObject(expected)
    expect((await stack.call('PUT', path, { body: { language: 'german' } })).body).toMatchObject(expected)
    await collection()
    const first = (await stack.call('GET', '/api/v1/collections?limit=1')).body
    const second = (await stack.call('GET', `/api/v1/collections?limit=1&after=${first.next}`)).body
    expect(first.data[0].name < second.data[0].name).toBe(true)
    expect((await stack.call('DELETE', path)).body).toMatchObject(expected)
    expect((await stack.call('GET', path)).body.code).toBe('collection_not_found')
    expect((await stack.call('DELETE', path)).status).toBe(404)
    expect(await stack.sql(`SELECT FROM passages WHERE document_id = 'shipping' AND text LIKE 'We ship%'`)).toEqual([])
  })

  it('keeps its language once it has documents', async () => {
    const { path } = await collection()
    expect((await stack.call('PUT', path, { body: { language: 'french' } })).body.language).toBe('french')
    await stack.call('PUT', `${path}/documents/a`, { body: { text: 'Bonjour' } })
    const { status, body } = await stack.call('PUT', path, { body: { language: 'german' } })
    expect([status, body.code, body.context.language]).toEqual([409, 'collection_not_empty', 'french'])
    expect((await stack.call('PUT', path, { body: { language: 'klingon' } })).status).toBe(422)
  })

  it('belongs to its key and is 404 for other keys', async () => {
    const own = await stack.makeKey()
    const other = await stack.makeKey()
    const { name, path } = await collection({ returns: RETURNS }, { key: own.secret })
    for (const [method, at, body] of [
      ['GET', path],
      ['DELETE', path],
      ['GET', `${path}/documents`],
      ['GET', `${path}/documents/returns`],
      ['PUT', `${path}/documents/returns`, { text: 'Mine now' }],
      ['DELETE', `${path}/documents/returns`],
      ['POST', `${path}/documents`, [{ id: 'a', text: 'b' }]],
      ['GET', `${path}/search?q=return`],
    ] as [string, string, unknown?][]) {
      const { status, body: problem } = await stack.call(method, at, {
        key: other.secret,
        ...(body !== undefined && { body }),
      })
      expect([status, problem.code], `${method} ${at}`).toEqual([404, 'collection_not_found'])
    }
    expect((await ask({ question: 'Return?', collection: name }, { key: other.secret })).status).toBe(422)
    expect((await stack.call('GET', '/api/v1/collections', { key: other.secret })).body.data).toEqual([])
    expect((await stack.call('GET', `${path}/documents/returns`, { key: own.secret })).body.text).toBe(RETURNS)
  })

  it.each([
    ['an invalid name', 'PUT', '/api/v1/collections/Not%20a%20name', {}],
    ['an invalid language', 'PUT', '/api/v1/collections/a', { language: 5 }],
    ['an empty text', 'PUT', '/api/v1/collections/x/documents/a', { text: '' }],
    ['a blank text', 'PUT', '/api/v1/collections/x/documents/a', { text: ' \n ' }],
    ['a text that is too long', 'PUT', '/api/v1/collections/x/documents/a', { text: 'a'.repeat(200_001) }],
    ['a text with U+0000', 'PUT', '/api/v1/collections/x/documents/a', { text: 'a\0b' }],
    [
      'metadata of 20 kB',
      'PUT',
      '/api/v1/collections/x/documents/a',
      { text: 'a', metadata: { a: 'b'.repeat(20_000) } },
    ],
    ['an id with a #', 'PUT', '/api/v1/collections/x/documents/a%23b', { text: 'a' }],
    ['no documents', 'POST', '/api/v1/collections/x/documents', []],
    [
      'a document twice',
      'POST',
      '/api/v1/collections/x/documents',
      [
        { id: 'a', text: 'b' },
        { id: 'a', text: 'c' },
      ],
    ],
    ['an object instead of a list', 'POST', '/api/v1/collections/x/documents', { id: 'a', text: 'b' }],
  ])('refuses %s', async (_, method, path, body) => {
    const answer = await stack.call(method, path, { body })
    expect([413, 422]).toContain(answer.status)
    expect(answer.body.context.field).toMatch(/^\//)
  })

  it.each(['', '?q=', '?q=%20', '?q=a&top_k=0', '?q=a&top_k=21'])('refuses the search query "%s"', async query => {
    const { path } = await collection()
    expect((await stack.call('GET', `${path}/search${query}`)).status).toBe(422)
  })
})

describe('a document', () => {
  it('is written, read, listed and deleted', async () => {
    const { path } = await collection({ b: RETURNS, c: SHIPPING })
    const metadata = { url: 'https://my.shop/returns', tags: ['a'] }
    const put = await stack.call('PUT', `${path}/documents/a`, { body: { text: 'One', metadata } })
    expect(put.body).toMatchObject({ id: 'a', metadata, characters: 3, passages: 1 })
    expect((await stack.call('GET', `${path}/documents/a`)).body).toMatchObject({ text: 'One', metadata })
    const first = (await stack.call('GET', `${path}/documents?limit=2`)).body
    expect([first.data.map((one: { id: string }) => one.id), first.next]).toEqual([['a', 'b'], 'b'])
    const rest = (await stack.call('GET', `${path}/documents?limit=2&after=b`)).body
    expect([rest.data.map((one: { id: string }) => one.id), rest.has_more]).toEqual([['c'], false])
    expect((await stack.call('DELETE', `${path}/documents/a`)).body.id).toBe('a')
    for (const method of ['GET', 'DELETE'])
      expect((await stack.call(method, `${path}/documents/a`)).body.code).toBe('document_not_found')
    expect(await found(path, 'one')).toEqual([])
    expect((await stack.call('GET', `${(await collection()).path}/documents`)).body.data).toEqual([])
  })

  it('replaces its earlier version and that version’s passages', async () => {
    const paragraph = 'The quick brown fox jumps over the lazy dog. '.repeat(30)
    const { path } = await collection({ a: `${paragraph}\n\n${paragraph}\n\n${paragraph}` })
    expect(await found(path, 'fox', '&top_k=20')).toHaveLength(3)
    await stack.call('PUT', `${path}/documents/a`, { body: { text: 'A cat' } })
    expect(await found(path, 'fox')).toEqual([])
    expect(await found(path, 'cats')).toEqual(['a#1'])
    expect((await stack.call('GET', path)).body).toMatchObject({ documents: 1, passages: 1 })
  })

  it('written concurrently ends as one of the versions', async () => {
    const { path } = await collection()
    const texts = ['alpha', 'beta', 'gamma', 'delta'].map((word, n) => `${word} word. `.repeat(1 + 200 * n))
    await Promise.all(texts.map(text => stack.call('PUT', `${path}/documents/a`, { body: { text } })))
    const { text } = (await stack.call('GET', `${path}/documents/a`)).body
    const ids = await found(path, 'alpha beta gamma delta', '&top_k=20')
    const { data } = (await stack.call('GET', `${path}/search?q=word&top_k=20`)).body
    expect(data.every((one: { text: string }) => text.includes(one.text))).toBe(true)
    expect(ids).toHaveLength((await stack.call('GET', path)).body.passages)
  })
})

describe('search', () => {
  it('finds all forms of the words, best first', async () => {
    const { path } = await collection({
      returns: RETURNS,
      shipping: SHIPPING,
      often: 'returned returned returned returned returned returned',
      other: 'Nothing to see here.',
    })
    expect(await found(path, 'May I return worn shoes?')).toEqual(['returns#1', 'often#1'])
    expect(await found(path, 'returning', '&top_k=1')).toHaveLength(1)
    expect(await found(path, 'the of and')).toEqual([])
  })

  it('treats operators as text', async () => {
    const { path } = await collection({ returns: RETURNS, names: `It's O'Brien's C:\\temp\\file, in <b>bold</b>` })
    expect(await found(path, 'shoes - not returned, "exactly this" & (that | those) !delivery :* <->')).toEqual([
      'returns#1',
    ])
    expect(await found(path, `O'Brien's \\ C:\\temp '`)).toEqual(['names#1'])
  })

  it('uses the language of the collection', async () => {
    const german = await collection({ a: 'Die Häuser der Stadt' }, { language: 'german' })
    expect(await found(german.path, 'Welches Haus?')).toEqual(['a#1'])
    const simple = await collection({ a: 'Die Häuser der Stadt' }, { language: 'simple' })
    expect(await found(simple.path, 'Haus')).toEqual([])
    expect(await found(simple.path, 'der')).toEqual(['a#1'])
  })
})

describe('ask with a collection', () => {
  it('answers from the passages found at submission, and cites them', async () => {
    const { name, path } = await collection({ returns: RETURNS, shipping: SHIPPING })
    stack.upstream.script({ text: cited(['returns#1', 'within 30 days of delivery']) })
    const { status, body } = await ask({ question: 'How long can I return worn shoes?', collection: name })
    expect([status, body.status, body.result?.citations[0].id]).toEqual([200, 'succeeded', 'returns#1'])
    expect(await inputOf(body)).toEqual({
      question: 'How long can I return worn shoes?',
      collection: name,
      contexts: [{ id: 'returns#1', text: RETURNS }],
    })
    // The same texts give the cached answer, which is written after the task has ended; another text does not.
    stack.upstream.rule(/worn shoes/, { text: cited(['returns#1', 'within 30 days of delivery']) })
    await expect
      .poll(async () => {
        const again = await ask({ question: 'How long can I return worn shoes?', collection: name, top_k: 3 })
        return again.body.source
      })
      .toBe('cache')
    await stack.call('PUT', `${path}/documents/returns`, { body: { text: `${RETURNS} New!` } })
    stack.upstream.script({ text: cited(['returns#1', 'within 30 days']) })
    expect((await ask({ question: 'How long can I return worn shoes?', collection: name })).body.source).toBe('ai')
  })

  it('answers without a call when nothing is found, and counts it', async () => {
    const { name } = await collection({ returns: RETURNS })
    const empty = await collection()
    const calls = stack.upstream.count()
    const unanswered = async () => {
      const metrics = await (await fetch(`http://127.0.0.1:${stack.worker.port}/metrics`)).text()
      return Number(/sluice_answers_total\{[^}]*outcome="no_answer"[^}]*\} (\d+)/.exec(metrics)?.[1] ?? 0)
    }
    const before = await unanswered()
    for (const one of [name, empty.name]) {
      const { body } = await ask({ question: 'Who won the championship?', collection: one })
      expect(body).toMatchObject({
        status: 'succeeded',
        source: 'rules',
        result: { answer: NO_ANSWER, answered: false, citations: [] },
        attempts: [],
      })
      expect(await inputOf(body)).toMatchObject({ collection: one, contexts: [] })
    }
    expect(stack.upstream.count()).toBe(calls)
    await expect.poll(unanswered).toBe(before + 2)
  })

  it.each([
    ['an unknown collection', { collection: 'nowhere' }, '/input/collection'],
    ['an invalid name', { collection: 'No Name' }, '/input/collection'],
    ['neither contexts nor a collection', {}, '/input/contexts'],
    ['both', { collection: 'a', contexts: [{ id: 'a', text: 'b' }] }, '/input/contexts'],
    ['top_k with contexts', { contexts: [{ id: 'a', text: 'b' }], top_k: 3 }, '/input/top_k'],
    ['a top_k of 100', { collection: 'a', top_k: 100 }, '/input/top_k'],
    ['no contexts at all', { contexts: [] }, '/input/contexts'],
  ])('is refused: %s', async (_, more, field) => {
    const { status, body } = await ask({ question: 'Why?', ...more })
    expect([status, body.context?.field]).toEqual([422, field])
  })

  it('has no precomputed answer by collection', async () => {
    const result = { answer: NO_ANSWER, answered: false, citations: [] }
    const body = { input: { question: 'Why?', collection: 'a' }, result }
    const answer = await stack.call('PUT', '/api/v1/precomputed/ask', { body })
    expect([answer.status, answer.body.context.field]).toEqual([422, '/input/collection'])
  })

  it('works in batch lines; an unknown collection is an error of its line', async () => {
    const { name } = await collection({ returns: RETURNS, shipping: SHIPPING })
    stack.upstream.rule(/returned when worn/, { text: cited(['returns#1', 'Worn shoes']) })
    const lines = [
      { question: 'Can shoes be returned when worn?', collection: name },
      { question: 'Who won the championship?', collection: name },
    ]
    const submit = (body: object[], query = '') => stack.call('POST', `/api/v1/batches?kind=ask${query}`, { body })
    const { id } = (await submit(lines)).body
    await stack.call('GET', `/api/v1/batches/${id}/events`)
    const { body } = await stack.call('GET', `/api/v1/batches/${id}/results`)
    const results = String(body)
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
    expect(results.map(one => [one.status, one.result?.answered])).toEqual([
      ['succeeded', true],
      ['succeeded', false],
    ])
    const wrong = await submit([...lines, { question: 'Why?', collection: 'nowhere' }], '&dry_run=true')
    expect(wrong.body).toMatchObject({
      valid: false,
      errors: [{ line: 3, code: 'invalid_input', param: '/input/collection' }],
    })
  })
})
