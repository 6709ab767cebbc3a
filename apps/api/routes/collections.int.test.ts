import { describe, expect, it } from 'vitest'
import { NO_ANSWER } from '#shared/jobs/ask.ts'
import { startMachine } from '#shared/testing/machine.ts'

const machine = startMachine()

const RETURNS = 'Anything can be returned within 30 days of delivery. Worn shoes are the exception.'
const SHIPPING = 'We ship within two working days, to all of Europe.'

let names = 0
async function collection(
  documents: Record<string, string> = {},
  { key, language = 'english' }: { key?: string; language?: string } = {},
) {
  const name = `collection-${++names}`
  const how = key === undefined ? {} : { key }
  const { status } = await machine.call('PUT', `/api/v1/collections/${name}`, { body: { language }, ...how })
  expect(status).toBe(200)
  const body = Object.entries(documents).map(([id, text]) => ({ id, text }))
  if (body.length > 0)
    expect((await machine.call('POST', `/api/v1/collections/${name}/documents`, { body, ...how })).status).toBe(200)
  return { name, path: `/api/v1/collections/${name}` }
}
async function found(path: string, q: string, more = ''): Promise<string[]> {
  const { status, body } = await machine.call('GET', `${path}/search?q=${encodeURIComponent(q)}${more}`)
  expect(status).toBe(200)
  return body.data.map((one: { id: string }) => one.id)
}
async function ask(input: object, { key, options = {} }: { key?: string; options?: object } = {}) {
  return await machine.call('POST', '/api/v1/tasks/ask', {
    body: { input, options },
    headers: { prefer: 'wait=30' },
    ...(key !== undefined && { key }),
  })
}
const inputOf = async (task: { task_id: string }) =>
  (await machine.call('GET', `/api/v1/tasks/${task.task_id}/input`)).body.input
const cited = (...citations: [id: string, quote: string][]) =>
  JSON.stringify({ answer: 'For 30 days.', answered: true, citations: citations.map(([id, quote]) => ({ id, quote })) })

describe('a collection', () => {
  it('is begun, read, listed by pages and deleted with its documents', async () => {
    const { name, path } = await collection({ returns: RETURNS, shipping: SHIPPING }, { language: 'german' })
    const expected = { name, language: 'german', documents: 2, passages: 2 }
    expect((await machine.call('GET', path)).body).toMatchObject(expected)
    expect((await machine.call('PUT', path, { body: { language: 'german' } })).body).toMatchObject(expected)
    await collection()
    const first = (await machine.call('GET', '/api/v1/collections?limit=1')).body
    const second = (await machine.call('GET', `/api/v1/collections?limit=1&after=${first.next}`)).body
    expect(first.data[0].name < second.data[0].name).toBe(true)
    expect((await machine.call('DELETE', path)).body).toMatchObject(expected)
    expect((await machine.call('GET', path)).body.code).toBe('collection_not_found')
    expect((await machine.call('DELETE', path)).status).toBe(404)
    expect(await machine.sql(`SELECT FROM passages WHERE document_id = 'shipping' AND text LIKE 'We ship%'`)).toEqual(
      [],
    )
  })

  it('has one language: it cannot be changed once there are documents', async () => {
    const { path } = await collection()
    expect((await machine.call('PUT', path, { body: { language: 'french' } })).body.language).toBe('french')
    await machine.call('PUT', `${path}/documents/a`, { body: { text: 'Bonjour' } })
    const { status, body } = await machine.call('PUT', path, { body: { language: 'german' } })
    expect([status, body.code, body.context.language]).toEqual([409, 'collection_not_empty', 'french'])
    expect((await machine.call('PUT', path, { body: { language: 'klingon' } })).status).toBe(422)
  })

  it('belongs to its key: to others it is not there', async () => {
    const own = await machine.makeKey()
    const other = await machine.makeKey()
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
      const { status, body: problem } = await machine.call(method, at, {
        key: other.secret,
        ...(body !== undefined && { body }),
      })
      expect([status, problem.code], `${method} ${at}`).toEqual([404, 'collection_not_found'])
    }
    expect((await ask({ question: 'Return?', collection: name }, { key: other.secret })).status).toBe(422)
    expect((await machine.call('GET', '/api/v1/collections', { key: other.secret })).body.data).toEqual([])
    expect((await machine.call('GET', `${path}/documents/returns`, { key: own.secret })).body.text).toBe(RETURNS)
  })

  it.each([
    ['a name that is none', 'PUT', '/api/v1/collections/Not%20a%20name', {}],
    ['a language that is none', 'PUT', '/api/v1/collections/a', { language: 5 }],
    ['an empty text', 'PUT', '/api/v1/collections/x/documents/a', { text: '' }],
    ['a blank one', 'PUT', '/api/v1/collections/x/documents/a', { text: ' \n ' }],
    ['one that is too long', 'PUT', '/api/v1/collections/x/documents/a', { text: 'a'.repeat(200_001) }],
    ['one that cannot be stored', 'PUT', '/api/v1/collections/x/documents/a', { text: 'a\0b' }],
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
    ['no list', 'POST', '/api/v1/collections/x/documents', { id: 'a', text: 'b' }],
  ])('is not given %s', async (_, method, path, body) => {
    const answer = await machine.call(method, path, { body })
    expect([413, 422]).toContain(answer.status)
    expect(answer.body.context.field).toMatch(/^\//)
  })

  it.each(['', '?q=', '?q=%20', '?q=a&top_k=0', '?q=a&top_k=21'])('is not searched with "%s"', async query => {
    const { path } = await collection()
    expect((await machine.call('GET', `${path}/search${query}`)).status).toBe(422)
  })
})

describe('a document', () => {
  it('is written, read, listed and deleted', async () => {
    const { path } = await collection({ b: RETURNS, c: SHIPPING })
    const metadata = { url: 'https://my.shop/returns', tags: ['a'] }
    const put = await machine.call('PUT', `${path}/documents/a`, { body: { text: 'One', metadata } })
    expect(put.body).toMatchObject({ id: 'a', metadata, characters: 3, passages: 1 })
    expect((await machine.call('GET', `${path}/documents/a`)).body).toMatchObject({ text: 'One', metadata })
    const first = (await machine.call('GET', `${path}/documents?limit=2`)).body
    expect([first.data.map((one: { id: string }) => one.id), first.next]).toEqual([['a', 'b'], 'b'])
    const rest = (await machine.call('GET', `${path}/documents?limit=2&after=b`)).body
    expect([rest.data.map((one: { id: string }) => one.id), rest.has_more]).toEqual([['c'], false])
    expect((await machine.call('DELETE', `${path}/documents/a`)).body.id).toBe('a')
    for (const method of ['GET', 'DELETE'])
      expect((await machine.call(method, `${path}/documents/a`)).body.code).toBe('document_not_found')
    expect(await found(path, 'one')).toEqual([])
    expect((await machine.call('GET', `${(await collection()).path}/documents`)).body.data).toEqual([])
  })

  it('takes the place of the one before, whose passages are found no more', async () => {
    const paragraph = 'The quick brown fox jumps over the lazy dog. '.repeat(30)
    const { path } = await collection({ a: `${paragraph}\n\n${paragraph}\n\n${paragraph}` })
    expect(await found(path, 'fox', '&top_k=20')).toHaveLength(3)
    await machine.call('PUT', `${path}/documents/a`, { body: { text: 'A cat' } })
    expect(await found(path, 'fox')).toEqual([])
    expect(await found(path, 'cats')).toEqual(['a#1'])
    expect((await machine.call('GET', path)).body).toMatchObject({ documents: 1, passages: 1 })
  })

  it('that is written by many at once is in the end what one of them wrote', async () => {
    const { path } = await collection()
    const texts = ['alpha', 'beta', 'gamma', 'delta'].map((word, n) => `${word} word. `.repeat(1 + 200 * n))
    await Promise.all(texts.map(text => machine.call('PUT', `${path}/documents/a`, { body: { text } })))
    const { text } = (await machine.call('GET', `${path}/documents/a`)).body
    const ids = await found(path, 'alpha beta gamma delta', '&top_k=20')
    const { data } = (await machine.call('GET', `${path}/search?q=word&top_k=20`)).body
    expect(data.every((one: { text: string }) => text.includes(one.text))).toBe(true)
    expect(ids).toHaveLength((await machine.call('GET', path)).body.passages)
  })
})

describe('what is found', () => {
  it('has words of the question, in whatever form they stand, best first', async () => {
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

  it('does not depend on what would be an operator elsewhere', async () => {
    const { path } = await collection({ returns: RETURNS, names: `It's O'Brien's C:\\temp\\file, in <b>bold</b>` })
    expect(await found(path, 'shoes - not returned, "exactly this" & (that | those) !delivery :* <->')).toEqual([
      'returns#1',
    ])
    expect(await found(path, `O'Brien's \\ C:\\temp '`)).toEqual(['names#1'])
  })

  it('is of the collection’s language', async () => {
    const german = await collection({ a: 'Die Häuser der Stadt' }, { language: 'german' })
    expect(await found(german.path, 'Welches Haus?')).toEqual(['a#1'])
    const simple = await collection({ a: 'Die Häuser der Stadt' }, { language: 'simple' })
    expect(await found(simple.path, 'Haus')).toEqual([])
    expect(await found(simple.path, 'der')).toEqual(['a#1'])
  })
})

describe('ask, of a collection', () => {
  it('answers from what was found when the task was accepted, and cites passages', async () => {
    const { name, path } = await collection({ returns: RETURNS, shipping: SHIPPING })
    machine.upstream.script({ text: cited(['returns#1', 'within 30 days of delivery']) })
    const { status, body } = await ask({ question: 'How long can I return worn shoes?', collection: name })
    expect([status, body.status, body.result?.citations[0].id]).toEqual([200, 'succeeded', 'returns#1'])
    expect(await inputOf(body)).toEqual({
      question: 'How long can I return worn shoes?',
      collection: name,
      contexts: [{ id: 'returns#1', text: RETURNS }],
    })
    // The same texts: the same answer. Another text: another question.
    expect((await ask({ question: 'How long can I return worn shoes?', collection: name, top_k: 3 })).body.source).toBe(
      'cache',
    )
    await machine.call('PUT', `${path}/documents/returns`, { body: { text: `${RETURNS} New!` } })
    machine.upstream.script({ text: cited(['returns#1', 'within 30 days']) })
    expect((await ask({ question: 'How long can I return worn shoes?', collection: name })).body.source).toBe('ai')
  })

  it('is answered without a call when nothing is found, or the collection is empty; and counted', async () => {
    const { name } = await collection({ returns: RETURNS })
    const empty = await collection()
    const calls = machine.upstream.count()
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
    expect(machine.upstream.count()).toBe(calls)
    const metrics = await (await fetch(`http://127.0.0.1:${machine.worker.port}/metrics`)).text()
    expect(metrics).toMatch(/sluice_answers_total\{[^}]*outcome="no_answer"[^}]*\} 2/)
  })

  it.each([
    ['a collection that is not there', { collection: 'nowhere' }, '/input/collection'],
    ['a name that is none', { collection: 'No Name' }, '/input/collection'],
    ['neither contexts nor a collection', {}, '/input/contexts'],
    ['both', { collection: 'a', contexts: [{ id: 'a', text: 'b' }] }, '/input/contexts'],
    ['top_k with contexts', { contexts: [{ id: 'a', text: 'b' }], top_k: 3 }, '/input/top_k'],
    ['a top_k of 100', { collection: 'a', top_k: 100 }, '/input/top_k'],
    ['no contexts at all', { contexts: [] }, '/input/contexts'],
  ])('is turned down: %s', async (_, more, field) => {
    const { status, body } = await ask({ question: 'Why?', ...more })
    expect([status, body.context?.field]).toEqual([422, field])
  })

  it('has no precomputed answer, but for its contexts', async () => {
    const result = { answer: NO_ANSWER, answered: false, citations: [] }
    const body = { input: { question: 'Why?', collection: 'a' }, result }
    const answer = await machine.call('PUT', '/api/v1/precomputed/ask', { body })
    expect([answer.status, answer.body.context.field]).toEqual([422, '/input/collection'])
  })

  it('works in the lines of a batch, each with its own contexts; a line that names no collection of the key is its problem', async () => {
    const { name } = await collection({ returns: RETURNS, shipping: SHIPPING })
    machine.upstream.rule(/returned when worn/, { text: cited(['returns#1', 'Worn shoes']) })
    const lines = [
      { question: 'Can shoes be returned when worn?', collection: name },
      { question: 'Who won the championship?', collection: name },
    ]
    const submit = (body: object[], query = '') => machine.call('POST', `/api/v1/batches?kind=ask${query}`, { body })
    const { id } = (await submit(lines)).body
    await machine.call('GET', `/api/v1/batches/${id}/events`)
    const { body } = await machine.call('GET', `/api/v1/batches/${id}/results`)
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
