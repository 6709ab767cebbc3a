import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { MAX_IMAGE_BYTES } from '#shared/requests/media.ts'
import { type Receiver, startReceiver } from '#shared/testing/receiver.ts'
import { parseTargetPolicy } from '#shared/webhooks/target.ts'
import { createFetchImage } from './fetch-image.ts'
import { createInlineImages } from './inline-images.ts'

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)
const never = new AbortController().signal
const policy = parseTargetPolicy('127.0.0.0/8')
const fetchImage = createFetchImage({ policy })

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())
beforeEach(() => {
  receiver.received.length = 0
  receiver.answers(response => response.writeHead(200, { 'content-type': 'text/plain' }).end(PNG))
})

describe('an image', () => {
  it('is known by its first bytes, whatever the server calls it', async () => {
    expect(await fetchImage(`${receiver.url}/a.txt?b=c`, never)).toEqual({
      mediaType: 'image/png',
      data: PNG.toString('base64'),
    })
    expect(receiver.received).toMatchObject([{ path: '/a.txt?b=c', body: '' }])
  })

  it('may be behind a redirect', async () => {
    let hops = 0
    receiver.answers(response =>
      hops++ < 3 ? response.writeHead(302, { location: '/next' }).end() : response.writeHead(200).end(PNG),
    )
    expect(await fetchImage(receiver.url, never)).toMatchObject({ mediaType: 'image/png' })
    hops = Number.NEGATIVE_INFINITY
    expect(await fetchImage(receiver.url, never)).toEqual({ problem: 'redirects too often' })
  })

  it.each<[string, (response: Parameters<Parameters<Receiver['answers']>[0]>[0]) => unknown, string | RegExp]>([
    ['an error', response => response.writeHead(404).end(PNG), 'answers with HTTP 404'],
    ['a page', response => response.writeHead(200, { 'content-type': 'image/png' }).end('<html>'), /is no PNG/],
    ['nothing', response => response.writeHead(200).end(), /is no PNG/],
    [
      'too much',
      response => response.writeHead(200).end(Buffer.concat([PNG, Buffer.alloc(MAX_IMAGE_BYTES)])),
      /has more/,
    ],
    [
      'half of it',
      response => response.writeHead(200, { 'content-length': '999' }).write(PNG, () => response.destroy()),
      /cannot be reached/,
    ],
    [
      'a redirect to a private address',
      response => response.writeHead(302, { location: 'http://10.0.0.1/' }).end(),
      /^is not allowed/,
    ],
    [
      'a redirect to a file',
      response => response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
      /is not a URL|must begin/,
    ],
  ])('is refused if the server sends %s', async (_, answer, problem) => {
    receiver.answers(answer)
    expect(await fetchImage(receiver.url, never)).toEqual({ problem: expect.stringMatching(problem) })
  })

  it.each([
    'http://169.254.169.254/latest/meta-data',
    'https://10.0.0.1/a.png',
    'http://localhost:1/',
    'ftp://a.example/',
  ])('is not fetched from %s', async url => {
    const fetchPublic = createFetchImage({ policy: parseTargetPolicy('') })
    expect(await fetchPublic(url, never)).toEqual({ problem: expect.stringMatching(/^(is not allowed|must begin)/) })
  })

  it('must arrive in time', async () => {
    receiver.answers(response => response.writeHead(200).write(PNG))
    expect(await createFetchImage({ policy, timeoutMs: 100 })(receiver.url, never)).toEqual({
      problem: 'does not answer within 0.1 seconds',
    })
  })
})

it('a request gets each image once, in every place', async () => {
  const image = { type: 'image' as const, source: { kind: 'url' as const, url: `${receiver.url}/a` } }
  const inlined = await createInlineImages(fetchImage)(
    {
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'Compare' }, image, image] },
        { role: 'user', content: [{ type: 'tool_result', id: 'a', content: [image] }] },
      ],
    },
    never,
  )
  const source = { kind: 'base64', mediaType: 'image/png', data: PNG.toString('base64') }
  expect(inlined).toEqual({
    request: {
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Compare' },
            { type: 'image', source },
            { type: 'image', source },
          ],
        },
        { role: 'user', content: [{ type: 'tool_result', id: 'a', content: [{ type: 'image', source }] }] },
      ],
    },
  })
  expect(receiver.received).toHaveLength(1)
})
