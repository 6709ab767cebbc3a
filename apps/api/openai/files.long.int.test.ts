import OpenAI from 'openai'
import { expect, it, vi } from 'vitest'
import { sendZeros } from '#shared/testing/forms.ts'
import { sharedStack } from '#shared/testing/stack.ts'

const MAX_BYTES = 200 * 1_048_576
const stack = sharedStack()

it('files of 200 MB are accepted and larger ones are refused with 413', { timeout: 240_000 }, async () => {
  const { secret } = await stack.makeKey()
  const { files } = new OpenAI({ apiKey: secret, baseURL: `http://127.0.0.1:${stack.api.port}/v1`, maxRetries: 0 })
  const unfinished = () => stack.sql('SELECT id FROM files WHERE sha256 IS NULL')
  const leavesNothing = () => vi.waitFor(async () => expect(await unfinished()).toEqual([]), 20_000)

  const whole = await sendZeros(stack, secret, MAX_BYTES, { declared: false })
  expect(whole).toMatchObject({ status: 200, body: { bytes: MAX_BYTES } })
  for (const declared of [true, false]) {
    const { status, body } = await sendZeros(stack, secret, MAX_BYTES + 1_048_576, { declared })
    expect(status).toBe(413)
    expect(body.error).toMatchObject({ code: 'body_too_large', param: 'file', message: /200 MB/ })
    await leavesNothing()
  }
  expect((await files.list()).data).toHaveLength(1)
  // The SDK continues to write while the response is being sent.
  const large = new File([new Uint8Array(MAX_BYTES + 1_048_576)], 'large.jsonl')
  const error = await files.create({ file: large, purpose: 'batch' }).catch((error: unknown) => error)
  expect(error).toMatchObject({ status: 413, code: 'body_too_large', param: 'file' })
  await leavesNothing()
})
