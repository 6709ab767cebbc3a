import { expect, test } from 'vitest'
import { asking, createNative } from '#shared/testing/native-batches.ts'
import { startReceiver } from '#shared/testing/receiver.ts'
import { startStack } from '#shared/testing/stack.ts'

let output = ''
const PROVIDER_KEY = 'sk-ant-the-key-of-the-provider'
const stack = startStack(
  upstream => ({
    LOG_LEVEL: 'trace',
    PROVIDERS: 'anthropic,ollama',
    OLLAMA_HOST: upstream.url,
    ANTHROPIC_API_KEY: PROVIDER_KEY,
    MAX_ATTEMPTS: '2',
    BACKOFF_BASE_MS: '1',
  }),
  text => {
    output += text
  },
)
const lines = () =>
  output
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as Record<string, unknown>)

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const traceparent = `00-${TRACE}-b7ad6b7169203331-01`

test('the log holds no prompt, answer, key or secret, whatever fails', async () => {
  const planted = 'planted in a prompt'
  const echo = `the key ${PROVIDER_KEY} may not ask: ${planted}`
  stack.upstream.rule('bad request', { status: 400, message: echo })
  stack.upstream.rule('no access', { status: 401, message: echo })
  stack.upstream.rule('server error', { status: 500, message: echo, headers: { 'x-echo': echo } })
  stack.upstream.rule('not json', { status: 200, body: `{{ ${echo}` })
  stack.upstream.rule('garbage', { fault: 'garbage' })
  stack.upstream.rule('cut', { fault: 'cut_midway', text: echo })
  stack.upstream.rule('good', { text: `an answer with ${planted}` })
  const receiver = await startReceiver()
  receiver.answers(response => response.writeHead(410).end(echo))
  const key = await stack.makeKey()

  const native = createNative(stack, () => key.secret)
  await native.ended(
    (await native.send(asking(), [{ custom_id: planted, input: { prompt: `bad request ${planted}` } }])).body,
  )
  const ways = ['good', 'bad request', 'no access', 'server error', 'not json', 'garbage', 'cut']
  // All calls are in flight before one ends, so that the circuit breaker stays closed.
  const held = stack.upstream.hold()
  const asked = Promise.all(
    ways.map(how =>
      stack.submit(
        {
          input: { prompt: `${how}: ${planted}`, system: planted },
          metadata: { note: planted },
          options: { webhook_url: `${receiver.url}/?token=planted`, stream: how === 'cut', deadline_seconds: 20 },
        },
        { key: key.secret, headers: { traceparent, prefer: 'wait=30', 'x-request-id': 'my-request' } },
      ),
    ),
  )
  await held.waiting(ways.length)
  held.release()
  const answers = await asked
  // SDKs write to the console: Anthropic's for deprecated models, Ollama's for unparseable responses.
  stack.upstream.rule('unreadable', { body: `{ ${echo}\n` })
  for (const model of ['claude-sonnet-4-5', 'ollama/a-model'])
    await stack.finished({ input: { prompt: `unreadable: ${planted}` }, options: { model, deadline_seconds: 20 } })
  expect(answers.map(answer => answer.status)).toEqual(ways.map(() => 200))
  expect(new Set(stack.upstream.calls.map(call => call.prompt)).size).toBe(ways.length + 2)
  await receiver.until(7)
  // Requests that are refused.
  const json = { 'content-type': 'application/json' }
  await stack.call('POST', '/api/v1/tasks/generate', { body: `{"input": ${planted}`, headers: json })
  await stack.submit({ input: { prompt: `${planted}\0` } })
  await stack.submit({}, { key: 'sk-sluice-planted-planted-planted' })
  await stack.call('GET', '/api/v1/tasks/task_planted?token=planted')
  await Promise.all([stack.api.stop(), stack.worker.stop()])
  await receiver.close()

  expect(lines().length).toBeGreaterThan(5)
  for (const secret of ['planted', PROVIDER_KEY, key.secret, key.webhookSecret, 'the-admin-key-of-this-test'])
    expect(output).not.toContain(secret)
  const written = lines().filter(line => line.msg === 'a library wrote to the console')
  expect(written.map(line => line.text)).toEqual([expect.stringContaining('is deprecated')])
  // Log lines about a task name its key.
  const failed = lines().filter(line => line.msg === 'provider call failed')
  expect(failed).toContainEqual(
    expect.objectContaining({ task_id: expect.stringMatching(/^task_/), trace_id: TRACE, outcome: 'bad_response' }),
  )
})
