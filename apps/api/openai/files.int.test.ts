import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import OpenAI, { toFile } from 'openai'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { formPart as part, sendZeros } from '#shared/testing/forms.ts'
import { ADMIN, sharedStack } from '#shared/testing/stack.ts'

/** Uses the official SDK, unmodified; requests that it would never send go over a socket. */

const stack = sharedStack()
const clientOf = (apiKey: string) =>
  new OpenAI({ apiKey, baseURL: `http://127.0.0.1:${stack.api.port}/v1`, maxRetries: 0 })
const makeClient = async (body: object = {}) => clientOf((await stack.makeKey(body)).secret)

let client: OpenAI
beforeEach(async () => {
  client = await makeClient()
})

const upload = (text: string, name = 'in.jsonl', by = client) =>
  toFile(Buffer.from(text), name).then(file => by.files.create({ file, purpose: 'batch' }))
const contentOf = async (id: string, by = client) => Buffer.from(await (await by.files.content(id)).arrayBuffer())
const errorOf = async (work: PromiseLike<unknown>) => {
  const error = await Promise.resolve(work).catch((error: unknown) => error)
  expect(error).toBeInstanceOf(OpenAI.APIError)
  return error as InstanceType<typeof OpenAI.APIError>
}
/** Rows of incomplete uploads. */
const left = async () =>
  (
    await stack.sql<{ files: number; pieces: number }>(
      `SELECT (SELECT count(*)::int FROM files WHERE sha256 IS NULL) AS files,
        (SELECT count(*)::int FROM file_chunks c LEFT JOIN files f ON f.id = c.file_id WHERE f.sha256 IS NULL) AS pieces`,
    )
  )[0]
const leavesNothing = () => vi.waitFor(async () => expect(await left()).toEqual({ files: 0, pieces: 0 }), 10_000)
const mine = async () => (await client.files.list()).data

describe('the files of the openai SDK', () => {
  it('are created, retrieved, read and deleted', async () => {
    const path = join(tmpdir(), `sluice-${process.pid}.jsonl`)
    const text = '{"custom_id":"ä"}\r\n'.repeat(100_000)
    writeFileSync(path, text)
    const before = Math.floor(Date.now() / 1000)
    const file = await client.files.create({ file: createReadStream(path), purpose: 'batch' })
    expect(file).toEqual({
      id: expect.stringMatching(/^file-[0-9a-f]{32}$/),
      object: 'file',
      bytes: Buffer.byteLength(text),
      created_at: expect.any(Number),
      expires_at: file.created_at + 30 * 86_400,
      filename: `sluice-${process.pid}.jsonl`,
      purpose: 'batch',
      status: 'processed',
    })
    expect(file.created_at).toBeGreaterThanOrEqual(before)
    expect(await client.files.retrieve(file.id)).toEqual(file)
    expect((await client.files.waitForProcessing(file.id)).status).toBe('processed')
    expect((await contentOf(file.id)).equals(Buffer.from(text))).toBe(true)
    const [row] = await stack.sql<{ sha256: string }>(
      `SELECT encode(sha256, 'hex') AS sha256 FROM files WHERE id = '${file.id.slice('file-'.length)}'`,
    )
    expect(row!.sha256).toBe(createHash('sha256').update(text).digest('hex'))
    expect(await client.files.delete(file.id)).toEqual({ id: file.id, object: 'file', deleted: true })
    expect(await errorOf(client.files.retrieve(file.id))).toBeInstanceOf(OpenAI.NotFoundError)
    expect(await errorOf(client.files.content(file.id))).toBeInstanceOf(OpenAI.NotFoundError)
    expect(await errorOf(client.files.delete(file.id))).toBeInstanceOf(OpenAI.NotFoundError)
    expect(await mine()).toEqual([])
  })

  it('may be empty, have any name and expire after expires_after', async () => {
    const file = await client.files.create({
      file: await toFile(Buffer.alloc(0), 'zeilen „ä“ 🙂.jsonl'),
      purpose: 'batch',
      expires_after: { anchor: 'created_at', seconds: 3600 },
    })
    expect(file).toMatchObject({ bytes: 0, filename: 'zeilen „ä“ 🙂.jsonl', expires_at: file.created_at + 3600 })
    const content = await client.files.content(file.id)
    expect(content.headers.get('content-length')).toBe('0')
    expect(await content.text()).toBe('')
  })

  it('are listed in pages, in both orders, by purpose', async () => {
    const ids: string[] = []
    for (let i = 0; i < 5; i++) ids.push((await upload(`${i}`)).id)
    const paged: string[] = []
    let pages = 0
    for await (const page of (await client.files.list({ limit: 2, order: 'asc' })).iterPages()) {
      pages++
      paged.push(...page.data.map(file => file.id))
    }
    expect({ paged, pages }).toEqual({ paged: ids, pages: 3 })
    const page = await stack.call('GET', '/v1/files?limit=2', { key: client.apiKey })
    expect(page.body).toMatchObject({ object: 'list', first_id: ids[4], last_id: ids[3], has_more: true })
    expect((await client.files.list({ after: ids[1]!, order: 'asc', purpose: 'batch' })).data).toHaveLength(3)
    expect(await client.files.list({ purpose: 'batch_output' })).toMatchObject({ data: [], has_more: false })
    expect(await errorOf(client.files.list({ purpose: '\0' }))).toMatchObject({ status: 400, param: 'purpose' })
    const none = await stack.call('GET', '/v1/files?purpose=vision', { key: client.apiKey })
    expect(none.body).toEqual({ object: 'list', data: [], first_id: null, last_id: null, has_more: false })
  })

  it.each(['assistants', 'evals', 'fine-tune', 'user_data', 'vision'] as const)(
    'are stored for the purpose %s, but not accepted for a batch',
    async purpose => {
      const file = await client.files.create({ file: await toFile(Buffer.from('kept'), 'a.bin'), purpose })
      expect(file).toMatchObject({ purpose, status: 'processed', bytes: 4 })
      expect(String(await contentOf(file.id))).toBe('kept')
      expect((await client.files.list({ purpose })).data).toEqual([file])
      const create = client.batches.create({
        input_file_id: file.id,
        endpoint: '/v1/responses',
        completion_window: '24h',
      })
      expect(await errorOf(create)).toMatchObject({ status: 400, param: 'input_file_id' })
    },
  )

  it.each(['assistants_output', 'batch_output', 'fine-tune-results', 'Batch', ''])(
    'are refused for the purpose "%s", with the accepted ones',
    async purpose => {
      const file = await toFile(Buffer.from('x'), 'x')
      const error = await errorOf(client.files.create({ file, purpose: purpose as 'batch' }))
      expect(error).toMatchObject({ status: 400, code: 'invalid_value', param: 'purpose' })
      expect(error.message).toContain('one of assistants, batch, evals, fine-tune, user_data, vision')
    },
  )

  it('can be deleted during paging', async () => {
    for (let i = 0; i < 5; i++) await upload(`${i}`)
    let deleted = 0
    for await (const file of await client.files.list({ limit: 2 })) {
      await client.files.delete(file.id)
      deleted++
    }
    expect({ deleted, left: await mine() }).toEqual({ deleted: 5, left: [] })
  })

  it.each(['x', 'file-1', `file-${'0'.repeat(32)}`, `file-${'f'.repeat(32)}`, `batch_${'0'.repeat(32)}`])(
    'refuse the unknown cursor %s',
    async after => {
      await upload('a')
      const error = await errorOf(client.files.list({ after }))
      expect(error).toMatchObject({ status: 400, param: 'after', message: expect.stringMatching(/names no file/) })
    },
  )

  it('are visible to their key and to an admin key', async () => {
    const [{ id }, other] = [await upload('mine'), await makeClient()]
    for (const ask of [
      () => other.files.retrieve(id),
      () => other.files.content(id),
      () => other.files.delete(id),
      () => other.files.retrieve('file-1'),
    ])
      expect(await errorOf(ask())).toMatchObject({ status: 404, code: 'file_not_found', param: 'id' })
    expect((await other.files.list()).data).toEqual([])
    const admin = clientOf(ADMIN)
    expect((await admin.files.list()).data.map(file => file.id)).toContain(id)
    expect(String(await contentOf(id, admin))).toBe('mine')
  })

  it('need the scope', async () => {
    const [reader, writer] = [await makeClient({ scopes: ['read'] }), await makeClient({ scopes: ['submit'] })]
    const { id } = await upload('x', 'x', writer)
    const refused = await errorOf(upload('x', 'x', reader))
    expect(refused).toBeInstanceOf(OpenAI.PermissionDeniedError)
    expect(refused.code).toBe('insufficient_permissions')
    expect(await errorOf(writer.files.retrieve(id))).toBeInstanceOf(OpenAI.PermissionDeniedError)
    expect(await errorOf(reader.files.delete(id))).toBeInstanceOf(OpenAI.PermissionDeniedError)
    const unknown = await errorOf(upload('x', 'x', clientOf('sk-wrong')))
    expect(unknown).toBeInstanceOf(OpenAI.AuthenticationError)
    expect(unknown).toMatchObject({ code: 'invalid_api_key', type: 'invalid_request_error' })
    expect(unknown.requestID).toMatch(/./)
  })

  it('count against the request limit of the key', async () => {
    const slow = await makeClient({ requests_per_minute: 1 })
    await slow.files.list()
    const error = await errorOf(slow.files.list())
    expect(error).toBeInstanceOf(OpenAI.RateLimitError)
    expect(error).toMatchObject({ code: 'rate_limit_exceeded', type: 'requests' })
    expect(Number(error.headers!.get('retry-after'))).toBeGreaterThan(0)
    expect(error.headers!.get('x-should-retry')).toBeNull()
  })

  it('name the wrong parameter', async () => {
    const file = await toFile(Buffer.from('x'), 'x')
    const cases: [object, string][] = [
      [{ file, purpose: 'batch_output' }, 'purpose'],
      [{ file, purpose: 'anything' }, 'purpose'],
      [{ file }, 'purpose'],
      [{ purpose: 'batch' }, 'file'],
      [{ file: 'text', purpose: 'batch' }, 'file'],
      [{ file, purpose: 'batch', expires_after: { anchor: 'created_at' } }, 'expires_after[seconds]'],
      [{ file, purpose: 'batch', expires_after: { seconds: 3600 } }, 'expires_after[anchor]'],
      [{ file, purpose: 'batch', expires_after: { anchor: 'now', seconds: 3600 } }, 'expires_after[anchor]'],
      [{ file, purpose: 'batch', expires_after: { anchor: 'created_at', seconds: 3599 } }, 'expires_after[seconds]'],
      [{ file, purpose: 'batch', colour: 'red' }, 'colour'],
      [{ file, purpose: 'batch', another: file }, 'another'],
    ]
    for (const [body, param] of cases) {
      const error = await errorOf(client.files.create(body as OpenAI.FileCreateParams))
      expect(error).toBeInstanceOf(OpenAI.BadRequestError)
      expect(error).toMatchObject({ param, type: 'invalid_request_error' })
      expect(error.message).toContain(param)
      expect(error.headers!.get('x-should-retry')).toBe('false')
    }
    for (const query of [{ limit: 0 }, { limit: 10_001 }, { order: 'up' }, { after: 'x' }, { colour: 'red' }]) {
      const error = await errorOf(client.files.list(query as OpenAI.FileListParams))
      expect(error).toBeInstanceOf(OpenAI.BadRequestError)
      expect(error.param).toBe(Object.keys(query)[0])
    }
    await leavesNothing()
    expect(await mine()).toEqual([])
  })

  it('are refused before they are sent if they declare more than 200 MB', async () => {
    const { status, body } = await sendZeros(stack, client.apiKey!, 201 * 1_048_576, { declared: true })
    expect(status).toBe(413)
    expect(body.error).toMatchObject({ code: 'body_too_large', param: 'file', message: /200 MB/ })
    await leavesNothing()
  })
})

/** Sends raw bytes. `hangUpAt`: disconnects when the database has this number of pieces. @returns the complete response */
async function raw(body: string, headers: Record<string, string | number | null> = {}, hangUpAt?: number) {
  const socket = connect(stack.api.port, '127.0.0.1')
  const lines = {
    host: 'a',
    authorization: `Bearer ${client.apiKey}`,
    'content-type': 'multipart/form-data; boundary=x',
    'content-length': Buffer.byteLength(body),
    connection: 'close',
    ...headers,
  }
  const head = Object.entries(lines).map(([name, value]) => (value === null ? '' : `${name}: ${value}\r\n`))
  socket.write(`POST /v1/files HTTP/1.1\r\n${head.join('')}\r\n${body}`)
  if (hangUpAt !== undefined) {
    await vi.waitFor(async () => expect(await left()).toEqual({ files: 1, pieces: hangUpAt }), 10_000)
    socket.destroy()
    return ''
  }
  let text = ''
  for await (const some of socket.setEncoding('utf8')) text += some
  return text
}
const answered = (text: string) => {
  const [head = '', body = ''] = text.split('\r\n\r\n')
  return { status: Number(head.split(' ')[1]), body: JSON.parse(body) }
}

const FILE = part('file', 'some bytes', '; filename="a"')
const PURPOSE = part('purpose', 'batch')
const END = '\r\n--x--\r\n'

describe('a form', () => {
  it('may have its fields in any order', async () => {
    for (const body of [`${FILE}\r\n${PURPOSE}${END}`, `${PURPOSE}\r\n${FILE}${END}`])
      expect(answered(await raw(body))).toMatchObject({ status: 200, body: { bytes: 10, purpose: 'batch' } })
  })

  it.each<[string, string, Record<string, string | number>, number, string, string | null]>([
    ['no boundary', FILE, { 'content-type': 'multipart/form-data' }, 400, 'invalid_upload', null],
    ['no content', '', {}, 400, 'missing_required_parameter', 'purpose'],
    ['another content type', '{}', { 'content-type': 'application/json' }, 415, 'unsupported_media_type', null],
    ['an unknown content type', 'a', { 'content-type': 'text/plain' }, 415, 'unsupported_media_type', null],
    ['two files', `${PURPOSE}\r\n${FILE}\r\n${FILE}${END}`, {}, 400, 'invalid_value', 'file'],
    ['two purposes', `${PURPOSE}\r\n${PURPOSE}\r\n${FILE}${END}`, {}, 400, 'invalid_value', 'purpose'],
    [
      'a huge field',
      `${FILE}\r\n${part('purpose', 'b'.repeat(400_000))}${END}`,
      {},
      400,
      'string_above_max_length',
      'purpose',
    ],
    ['a name of Object’s', `${FILE}\r\n${part('__proto__', 'x')}${END}`, {}, 400, 'unknown_parameter', '__proto__'],
    ['no end', `${PURPOSE}\r\n${FILE}`, {}, 400, 'invalid_upload', null],
    ['nothing but an end', END, {}, 400, 'missing_required_parameter', 'purpose'],
    ['no file', `${PURPOSE}${END}`, {}, 400, 'missing_required_parameter', 'file'],
    ['a file without a name', `${PURPOSE}\r\n${part('file', 'x')}${END}`, {}, 400, 'invalid_value', 'file'],
    ['no purpose', `${FILE}${END}`, {}, 400, 'missing_required_parameter', 'purpose'],
    [
      'hundreds of fields',
      `${part('purpose', 'batch\r\n').repeat(300)}${FILE}${END}`,
      {},
      400,
      'invalid_value',
      'purpose',
    ],
  ])('with %s is refused, and nothing is left', async (_, body, headers, status, code, param) => {
    expect(answered(await raw(body, headers))).toMatchObject({ status, body: { error: { code, param } } })
    await leavesNothing()
    expect(await mine()).toEqual([])
  })

  it('with a wrong Content-Length is refused, and nothing is left', async () => {
    const body = `${PURPOSE}\r\n${FILE}${END}`
    // The rest is not a valid request. Node refuses it before or after the error about the unterminated form.
    expect(answered(await raw(body, { 'content-length': body.length - 20 })).status).toBe(400)
    await leavesNothing()
    // The announced bytes never arrive: the client disconnects.
    await raw(`${PURPOSE}\r\n${FILE}`, { 'content-length': 1_000_000 }, 0)
    await leavesNothing()
    expect(await mine()).toEqual([])
  })

  it('that breaks off leaves nothing behind', async () => {
    const much = part('file', 'x'.repeat(5_000_000), '; filename="a"')
    await raw(`${PURPOSE}\r\n${much}`, { 'content-length': 100_000_000 }, 19)
    await leavesNothing()
    const chunk = `${much.length.toString(16)}\r\n${much}\r\n`
    await raw(chunk, { 'transfer-encoding': 'chunked', 'content-length': null }, 19)
    await leavesNothing()
    expect(await mine()).toEqual([])
  })
})

describe('an unknown path under /v1', () => {
  it('is 404 in the format of OpenAI', async () => {
    for (const path of ['/v1/nothing', '/v1/files/x/y', '/v1/%zz', '/v1/'])
      expect(await stack.call('GET', path)).toMatchObject({
        status: 404,
        body: { error: { type: 'invalid_request_error', code: 'unknown_url', param: null } },
      })
    const error = await errorOf(client.get('/nothing'))
    expect(error).toBeInstanceOf(OpenAI.NotFoundError)
    expect(error.code).toBe('unknown_url')
  })

  it('is 404 in the format of Anthropic for Anthropic clients, also for OpenAI paths', async () => {
    for (const version of ['2023-06-01', '2026-10-21'])
      for (const path of ['/v1/files', '/v1/files/file-1', '/v1/nothing'])
        expect(await stack.call('GET', path, { headers: { 'anthropic-version': version } })).toMatchObject({
          status: 404,
          body: { type: 'error', error: { type: 'not_found_error' } },
        })
  })

  it('has the native format outside /v1', async () => {
    const answer = await stack.call('GET', '/v10/files', { headers: { 'anthropic-version': 'x' } })
    expect(answer).toMatchObject({ status: 404, body: { code: 'not_found' } })
  })
})

describe('a download', () => {
  it('holds no Postgres connection while its client does not read', { timeout: 60_000 }, async () => {
    await sendZeros(stack, client.apiKey!, 20 * 1_048_576)
    const [file] = await mine()
    const sockets = Array.from({ length: 12 }, () => connect(stack.api.port, '127.0.0.1'))
    try {
      for (const socket of sockets) {
        socket.pause()
        socket.write(
          `GET /v1/files/${file!.id}/content HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${client.apiKey}\r\n\r\n`,
        )
      }
      await Promise.all(sockets.map(socket => once(socket, 'readable')))
      // More downloads than connections: other requests are still served.
      expect((await client.files.retrieve(file!.id)).bytes).toBe(20 * 1_048_576)
      expect((await contentOf(file!.id)).length).toBe(20 * 1_048_576)
    } finally {
      for (const socket of sockets) socket.destroy()
    }
  })

  it('that breaks off fails at the client', { timeout: 60_000 }, async () => {
    await sendZeros(stack, client.apiKey!, 12 * 1_048_576)
    const [file] = await mine()
    const response = await client.files.content(file!.id)
    await stack.sql(`DELETE FROM file_chunks WHERE file_id = '${file!.id.slice('file-'.length)}'`)
    await expect(response.arrayBuffer()).rejects.toThrow()
  })
})
