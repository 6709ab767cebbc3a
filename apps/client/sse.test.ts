import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Frame, readFrames } from './sse.ts'

async function framesOf(pieces: Iterable<Uint8Array>): Promise<Frame[]> {
  const frames: Frame[] = []
  const source = (async function* () {
    yield* pieces
  })()
  for await (const frame of readFrames(source)) frames.push(frame)
  return frames
}

const encode = (text: string) => new TextEncoder().encode(text)

test('a stream of the server is read event by event', async () => {
  const text =
    'retry: 1000\n\n: keep-alive\n\nevent: delta\nid: 7\ndata: {"text":"a"}\n\nevent: restart\ndata: {}\n\nevent: done\ndata: {'
  expect(await framesOf([encode(text)])).toEqual([
    { event: 'delta', id: '7', data: '{"text":"a"}' },
    { event: 'restart', id: null, data: '{}' },
  ])
})

test('chunks and line ends do not change the events', async () => {
  const word = fc.stringMatching(/^[^\r\n\0: ][^\r\n\0]{0,8}$/)
  const frame = fc.record({ event: word, id: fc.option(word), data: fc.array(word, { minLength: 1, maxLength: 3 }) })
  await fc.assert(
    fc.asyncProperty(
      fc.array(frame, { maxLength: 5 }),
      fc.constantFrom('\n', '\r\n', '\r'),
      fc.infiniteStream(fc.integer({ min: 1, max: 7 })),
      async (frames, end, sizes) => {
        const lines = frames.flatMap(({ event, id, data }) => [
          `event: ${event}`,
          ...(id === null ? [] : [`id:${id}`]),
          ...data.map(line => `data: ${line}`),
          '',
        ])
        // A CR at the end may be half of a CRLF.
        const bytes = encode(lines.map(line => line + end).join('') + (end === '\r' ? ':' : ''))
        const pieces: Uint8Array[] = []
        for (let at = 0; at < bytes.length; ) {
          const size = sizes.next().value as number
          pieces.push(bytes.subarray(at, at + size))
          at += size
        }
        expect(await framesOf(pieces)).toEqual(frames.map(({ data, ...rest }) => ({ ...rest, data: data.join('\n') })))
      },
    ),
  )
})
