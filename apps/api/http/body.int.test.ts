import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { ADMIN, startStack } from '#shared/testing/stack.ts'

const stack = startStack(() => ({ BODY_MEMORY_MB: '32' }))
const MIB = 1_048_576
const TASKS = '/api/v1/tasks/generate'
const CODINGS = { gzip: gzipSync, deflate: deflateSync, br: brotliCompressSync, zstd: zstdCompressSync }
const coding = Object.entries(CODINGS)

// biome-ignore lint/suspicious/noExplicitAny: responses have many shapes.
type Sent = { status: number; headers: Headers; text: string; body: any }
async function send(path: string, body: string | Uint8Array, headers: Record<string, string> = {}): Promise<Sent> {
  const response = await fetch(`http://127.0.0.1:${stack.api.port}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ADMIN}`, 'content-type': 'application/json', ...headers },
    body: body as string,
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, body: JSON.parse(text) }
}
const problem = (status: number, code: string, context = {}) => ({ status, body: { code, context } })

/** Sends the head of a request and the given part of its body. */
function open(
  head: string[],
  body: string | Buffer = '',
): { socket: Socket; answer: Promise<string>; closed: Promise<unknown> } {
  const socket = connect(stack.api.port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {})
  let text = ''
  const { promise: answer, resolve } = Promise.withResolvers<string>()
  socket.on('data', some => {
    text += some
    if (text.includes('\r\n\r\n')) resolve(text)
  })
  socket.write(`${head.join('\r\n')}\r\nhost: a\r\n\r\n`)
  socket.write(body)
  return { socket, answer, closed: once(socket, 'close') }
}
const post = (path: string, key: string | null, ...more: string[]) => [
  `POST ${path} HTTP/1.1`,
  'content-type: application/json',
  ...(key === null ? [] : [`authorization: Bearer ${key}`]),
  ...more,
]
const json = JSON.stringify({ input: { prompt: 'Grüße' }, options: { cache: 'off' } })

describe('a compressed body', () => {
  it.each(coding)('%s is decompressed', async (name, compress) => {
    const { status, body } = await send(TASKS, compress(json), { 'content-encoding': name.toUpperCase() })
    expect(status).toBe(202)
    const [row] = await stack.sql<{ prompt: string }>(
      `SELECT input->>'prompt' AS prompt FROM tasks WHERE replace(id::text, '-', '') = '${body.task_id.slice(5)}'`,
    )
    expect(row).toEqual({ prompt: 'Grüße' })
  })

  it.each(coding)('%s may hold batch lines or a form with a file', async (name, compress) => {
    const headers = { 'content-encoding': name }
    const batch = '/api/v1/batches?kind=generate&dry_run=true'
    const lines = '{"prompt":"hi"}\n'.repeat(5000)
    expect(
      (await send(batch, compress(lines), { ...headers, 'content-type': 'Application/JSONL' })).body,
    ).toMatchObject({ valid: true, lines: 5000 })
    const csv = `prompt\n${'hello\n'.repeat(5000)}`
    expect((await send(batch, compress(csv), { ...headers, 'content-type': 'text/CSV' })).body).toMatchObject({
      valid: true,
      lines: 5000,
    })
    const parts = [
      '--b',
      'content-disposition: form-data; name="purpose"',
      '',
      'batch',
      '--b',
      'content-disposition: form-data; name="file"; filename="in.jsonl"',
      '',
      lines,
      '--b--',
      '',
    ]
    const file = await send('/v1/files', compress(parts.join('\r\n')), {
      ...headers,
      'content-type': 'multipart/form-data; boundary=b',
    })
    expect(file).toMatchObject({ status: 200, body: { bytes: lines.length } })
  })

  it.each(coding)(
    '%s is refused when it is truncated, has trailing bytes or is not compressed',
    async (name, compress) => {
      const whole = compress(json)
      const broken = [whole.subarray(0, -4), Buffer.concat([whole, Buffer.from('more')]), Buffer.from(json)]
      for (const body of broken) {
        for (const [path, type] of [
          [TASKS, 'application/json'],
          ['/api/v1/batches?kind=generate', 'application/jsonl'],
        ] as const) {
          const answer = await send(path, body, { 'content-encoding': name, 'content-type': type })
          expect(answer).toMatchObject(problem(400, 'invalid_encoding'))
          expect(answer.body.detail).toMatch(/^The body cannot be decompressed: /)
        }
      }
    },
  )

  it.each(coding)('%s is refused when it expands beyond the limit', async (name, compress) => {
    const bomb = compress(Buffer.alloc(16 * MIB, 32))
    expect(bomb.length).toBeLessThan(MIB)
    expect(await send(TASKS, bomb, { 'content-encoding': name })).toMatchObject({
      status: 413,
      body: { code: 'body_too_large' },
    })
  })

  it.each(['lzma', 'gzip, br', 'aws-chunked', '__proto__'])(
    'in an unknown coding (%s) is refused with the list of known codings',
    async name => {
      const answer = await send(TASKS, json, { 'content-encoding': name })
      const accepted = ['gzip', 'deflate', 'br', 'zstd']
      expect(answer).toMatchObject(problem(415, 'unsupported_media_type', { field: '/content-encoding', accepted }))
      expect(answer.headers.get('accept-encoding')).toBe(accepted.join(', '))
    },
  )

  it.each(['identity', 'X-GZIP', ' gzip '])('in the coding %s is read', async name => {
    const body = /gzip/i.test(name) ? gzipSync(json) : json
    expect((await send(TASKS, body, { 'content-encoding': name })).status).toBe(202)
  })
})

describe('the encoding of a text', () => {
  it.each([
    'application/json; charset=utf-8',
    'Application/JSON;Charset="UTF-8"',
    'APPLICATION/JSON ; version=1; CHARSET=utf8',
    'application/json;charset=us-ascii',
  ])('%s is UTF-8', async type => {
    expect(
      (await send(TASKS, '{"input":{"prompt":"hi"},"options":{"cache":"off"}}', { 'content-type': type })).status,
    ).toBe(202)
  })

  it.each(['iso-8859-1', 'windows-1252', 'utf-16', '"shift_jis"'])('%s is refused by its name', async charset => {
    for (const path of [TASKS, '/api/v1/batches?kind=generate'])
      expect(await send(path, json, { 'content-type': `application/json; charset=${charset}` })).toMatchObject(
        problem(415, 'unsupported_media_type', { field: '/content-type', charset: charset.replaceAll('"', '') }),
      )
  })

  it('is refused when it is not valid UTF-8, in any kind of body', async () => {
    const latin1 = Buffer.from(json, 'latin1')
    const utf16 = Buffer.from(`\uFEFF${json}`, 'utf16le')
    for (const bytes of [latin1, utf16, Buffer.from('{"input":{"prompt":"\xff"}}', 'latin1')])
      expect(await send(TASKS, bytes)).toMatchObject(problem(400, 'invalid_encoding'))
    expect((await send('/v1/moderations', latin1)).body.error).toMatchObject({
      code: 'invalid_encoding',
      type: 'invalid_request_error',
    })
    const parts = ['--b', 'content-disposition: form-data; name="purpose"', '', 'b\xe4tch', '--b--', '']
    const form = { 'content-type': 'multipart/form-data; boundary=b' }
    expect((await send('/v1/files', Buffer.from(parts.join('\r\n'), 'latin1'), form)).body.error).toMatchObject({
      code: 'invalid_encoding',
      message: expect.stringContaining('purpose'),
    })
    for (const [type, text] of [
      ['application/jsonl', '{"prompt":"\xe4"}'],
      ['text/csv', 'prompt\n\xe4'],
      ['application/json', '[{"prompt":"\xe4"}]'],
    ])
      expect(
        (
          await send('/api/v1/batches?kind=generate&dry_run=true', Buffer.from(text!, 'latin1'), {
            'content-type': type!,
          })
        ).body,
      ).toMatchObject({
        valid: false,
        errors: [{ code: 'invalid_utf8' }],
      })
  })

  it('may begin with a byte order mark', async () => {
    expect((await send(TASKS, `\uFEFF${json}`)).status).toBe(202)
    expect(
      (
        await send(
          TASKS,
          `\uFEFF{"input":{"prompt":"a"},"options":{"cache":"off"},"metadata":{"id":12345678901234567890}}`,
        )
      ).status,
    ).toBe(202)
  })

  it('a field of a form that is encoded for mail is refused', async () => {
    const parts = [
      '--b',
      'content-disposition: form-data; name="purpose"',
      'content-transfer-encoding: base64',
      '',
      'YmF0Y2g=',
      '--b--',
      '',
    ]
    const answer = await send('/v1/files', parts.join('\r\n'), { 'content-type': 'multipart/form-data; boundary=b' })
    expect(answer.body.error).toMatchObject({ param: 'purpose' })
  })
})

describe('a request whose body is not sent yet', () => {
  const size = `content-length: ${8 * MIB}`

  it.each([
    ['without a key', post(TASKS, null, size), 401],
    ['with a wrong key', post(TASKS, 'wrong', size), 401],
    ['for no route', post('/nothing', null, size), 404],
    ['for no route, with a key', post('/nothing', ADMIN, size), 404],
    ['for no route below a prefix', post('/health', null, size), 404],
    ['for a method that its path does not have', post('/api/v1/workers', null, size), 405],
    ['for a URL that cannot be decoded', post('/%', null, size), 404],
    ['for no kind', post('/api/v1/tasks/poem', ADMIN, size), 404],
    ['for no route of Anthropic’s', post('/v1/complete', null, size, 'anthropic-version: 2023-06-01'), 404],
    ['without a key, in chunks', post(TASKS, null, 'transfer-encoding: chunked'), 401],
    ['for an upload without a key', post('/v1/files', null, size), 401],
    ['in an unknown charset', post(TASKS, ADMIN, size, 'Content-Type: application/json; charset=x'), 415],
  ])('%s is answered at once, and its connection is closed', async (_, head, status) => {
    const lines = head.filter(
      (line, i) => !(line.startsWith('content-type') && head.slice(i + 1).some(one => one.startsWith('Content-Type'))),
    )
    const { socket, answer, closed } = open(lines)
    const text = await answer
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect(text.toLowerCase()).toContain('connection: close')
    socket.destroy()
    await closed
  })

  it('is answered after it has sent everything, and then closed', async () => {
    const { socket, answer, closed } = open(post(TASKS, 'wrong', size))
    await new Promise(resolve => socket.write(Buffer.alloc(8 * MIB, 32), resolve))
    expect(await answer).toContain('"code":"invalid_api_key"')
    await closed
  })

  it('with a key lacking the scope is refused before the body', async () => {
    const { secret } = await stack.makeKey({ scopes: ['read'] })
    expect(await open(post(TASKS, secret, size)).answer).toMatch(/^HTTP\/1.1 403 /)
  })
})

describe('concurrent bodies', () => {
  const LIMIT = 16 * MIB

  it('are bounded per key; other keys are not affected', async () => {
    const { secret: slow } = await stack.makeKey()
    const { secret: other } = await stack.makeKey()
    const head = post(TASKS, slow, `content-length: ${4 * MIB}`)
    // The probe may have used the memory of an upload, which is then sent again.
    const uploads = new Set<ReturnType<typeof open>>()
    const begin = () => {
      const upload = open(head, '{')
      uploads.add(upload)
      upload.answer.then(() => uploads.delete(upload))
    }
    const small = () => send(TASKS, json, { authorization: `Bearer ${slow}` })
    await vi.waitFor(async () => {
      while (uploads.size < LIMIT / (4 * MIB)) begin()
      expect((await small()).status).toBe(429)
    })
    const refused = await small()
    expect(refused).toMatchObject(problem(429, 'rate_limited', { limit_bytes: LIMIT }))
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await send(TASKS, json, { authorization: `Bearer ${other}` })).status).toBe(202)
    for (const { socket } of uploads) socket.destroy()
    await vi.waitFor(async () => expect((await small()).status).toBe(202))
  })

  it('are released when a connection with a pipelined request breaks', async () => {
    const { secret } = await stack.makeKey()
    const held = stack.upstream.hold()
    const body = JSON.stringify({ input: { prompt: 'first' }, options: { cache: 'off' } })
    const first = [...post(TASKS, secret, 'prefer: wait=30', `content-length: ${body.length}`), 'host: a', '', body]
    const next = post(TASKS, secret, `content-length: ${8 * MIB - body.length}`)
    const sockets = [1, 2].map(() => {
      const socket = connect(stack.api.port, '127.0.0.1').on('error', () => {})
      onTestFinished(() => void socket.destroy())
      socket.write(`${first.join('\r\n')}${next.join('\r\n')}\r\nhost: a\r\n\r\n{`)
      return socket
    })
    const small = () => send(TASKS, json, { authorization: `Bearer ${secret}` })
    await held.waiting(2)
    await vi.waitFor(async () => expect((await small()).status).toBe(429))
    for (const socket of sockets) socket.destroy()
    await vi.waitFor(async () => expect((await small()).status).toBe(202))
    held.release()
  })

  it('are bounded per process', async () => {
    const keys = await Promise.all([stack.makeKey(), stack.makeKey(), stack.makeKey()])
    for (const { secret } of keys.slice(0, 2))
      for (let i = 0; i < 2; i++) open(post(TASKS, secret, `content-length: ${8 * MIB}`), '{')
    const third = () => send(TASKS, json, { authorization: `Bearer ${keys[2]!.secret}` })
    await vi.waitFor(async () =>
      expect(await third()).toMatchObject({ status: 503, body: { code: 'server_busy', retryable: true } }),
    )
    expect(Number((await third()).headers.get('retry-after'))).toBeGreaterThan(0)
  })

  it('without a known length count as they grow, after decompression', async () => {
    const { secret } = await stack.makeKey()
    const chunk = `100000\r\n${' '.repeat(MIB)}\r\n`
    const chunked = Array.from({ length: 3 }, () =>
      open(post(TASKS, secret, 'transfer-encoding: chunked'), chunk.repeat(5)),
    )
    const packed = gzipSync(Buffer.alloc(5 * MIB, 32))
    const gzipped = open(post(TASKS, secret, 'content-encoding: gzip', `content-length: ${packed.length + 1}`), packed)
    const answer = await Promise.race([...chunked, gzipped].map(one => one.answer))
    expect(answer).toMatch(/^HTTP\/1.1 429 /)
  })

  it('count until their answer is sent', async () => {
    const { secret } = await stack.makeKey()
    const bytes = JSON.stringify({ input: { prompt: 'a' }, options: { cache: 'off' } }) + ' '.repeat(7 * MIB)
    const waiting = () => send(TASKS, bytes, { authorization: `Bearer ${secret}` })
    for (let i = 0; i < 4; i++) expect((await waiting()).status).toBe(202)
  })
})
