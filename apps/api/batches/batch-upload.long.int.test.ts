import { once } from 'node:events'
import { connect } from 'node:net'
import { expect, it } from 'vitest'
import { asking, batchesWith, createNative } from '#shared/testing/native-batches.ts'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()
const MIB = 1_048_576

const piece = Buffer.alloc(MIB, 'x')
const chunk = Buffer.concat([Buffer.from('100000\r\n'), piece, Buffer.from('\r\n')])

it.each([
  ['declared', `content-length: ${240 * MIB}`, piece, ''],
  ['not declared', 'transfer-encoding: chunked', chunk, '0\r\n\r\n'],
] as const)(
  'a batch of 240 MB, its length %s, is refused, also for a client that reads only after sending',
  {
    timeout: 180_000,
  },
  async (_, header, some, end) => {
    const { secret } = await stack.makeKey()
    const { kept, leavesNothing } = createNative(stack, () => secret)
    const before = await kept()
    const socket = connect(stack.api.port, '127.0.0.1').pause()
    const lines = [`authorization: Bearer ${secret}`, 'content-type: application/jsonl', header]
    socket.write(`POST ${batchesWith(asking())} HTTP/1.1\r\nhost: a\r\n${lines.join('\r\n')}\r\n\r\n`)
    for (let sent = 0; sent < 240; sent++) if (!socket.write(some)) await once(socket, 'drain')
    socket.write(end)
    // The response fits into one packet.
    const [text] = (await once(socket.setEncoding('utf8').resume(), 'data')) as [string]
    socket.destroy()
    expect(text).toMatch(/^HTTP\/1.1 413 /)
    expect(JSON.parse(text.split('\r\n\r\n')[1]!)).toMatchObject({
      code: 'body_too_large',
      detail: expect.stringContaining('200 MB'),
    })
    await leavesNothing(before)
  },
)
