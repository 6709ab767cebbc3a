import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type Api, type Cluster, modelOf, PATIENT, startCluster, uuidOf, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
let other: Api
beforeAll(async () => {
  cluster = await startCluster({ apis: 2, own: ['redis'] })
  other = cluster.apis[1]!
})
afterAll(() => cluster?.close())

const options = { model: modelOf('revoked') }

/** A key with a task whose call hangs until `release`. */
async function scene(name: string) {
  const { body } = await cluster.api.call('POST', '/api/v1/keys', { body: { name, scopes: ['submit', 'read'] } })
  const held = cluster.upstream.hold({ when: new RegExp(name) })
  const task = await cluster.api.submit(`[[${name}]]`, { key: body.key, options })
  await within('the call is in flight', held.waiting(1))
  return {
    task,
    secret: body.key as string,
    /** Through an API that does not serve the key. */
    revoke: async () => {
      const answer = await other.call('DELETE', `/api/v1/keys/${body.id}`)
      expect(answer).toMatchObject({ status: 200 })
    },
    release: () => held.release(),
  }
}

async function upload(text: string, secret: string): Promise<string> {
  const form = new FormData()
  form.set('purpose', 'batch')
  form.set('file', new Blob([text]), 'in.jsonl')
  const response = await fetch(`http://127.0.0.1:${cluster.api.port}/v1/files`, {
    method: 'POST',
    headers: { authorization: `Bearer ${secret}` },
    body: form,
  })
  expect(response.status).toBe(200)
  return ((await response.json()) as { id: string }).id
}

/** Opens a response and reads a part of it. */
async function open(path: string, secret: string) {
  const response = await fetch(`http://127.0.0.1:${cluster.api.port}${path}`, {
    headers: { authorization: `Bearer ${secret}` },
  })
  expect(response.status).toBe(200)
  const reader = response.body!.getReader()
  const first = await reader.read()
  let text = new TextDecoder().decode(first.value)
  return {
    /** Resolves at the end of the response, with its text and whether it was cut off. @param pauseMs before each read */
    async rest({ pauseMs = 0 } = {}) {
      for (;;) {
        await sleep(pauseMs)
        const part = await reader.read().catch(() => null)
        if (!part || part.done) return { text, cut: part === null }
        text += new TextDecoder().decode(part.value)
      }
    },
  }
}

test('revoking a key ends its open task streams without the result, with or without Redis', async () => {
  for (const redis of ['up', 'away']) {
    const { task, secret, revoke, release } = await scene(`task-stream-${redis}`)
    const stream = await open(`/api/v1/tasks/${task}/events`, secret)
    if (redis === 'away') await cluster.redis!.kill()
    await revoke()
    const { text } = await within('the stream ends', stream.rest())
    expect(text).not.toContain('done')
    expect(await cluster.api.call('GET', `/api/v1/tasks/${task}`, { key: secret })).toMatchObject({ status: 401 })
    await cluster.redis!.start()
    release()
    // The task continues.
    await cluster.ended([task])
  }
})

test('revoking a key ends its open batch streams', async () => {
  const { secret, revoke, release } = await scene('batch-stream')
  const lines = ['a', 'b'].map(custom_id =>
    JSON.stringify({
      custom_id,
      method: 'POST',
      url: '/v1/chat/completions',
      body: { model: options.model, messages: [{ role: 'user', content: '[[batch-stream]]' }] },
    }),
  )
  const input_file_id = await upload(lines.join('\n'), secret)
  const { body } = await cluster.api.call('POST', '/v1/batches', {
    key: secret,
    body: { input_file_id, endpoint: '/v1/chat/completions', completion_window: '24h' },
  })
  const stream = await open(`/api/v1/batches/${body.id}/events`, secret)
  await revoke()
  expect((await within('the stream ends', stream.rest())).text).not.toContain('event: done')
  release()
})

test('revoking a key answers its long polls with 401 and its waiting submits with the task id', async () => {
  const { task, secret, revoke, release } = await scene('long-poll')
  const polled = cluster.api.call('GET', `/api/v1/tasks/${task}?wait=60`, { key: secret })
  const held = cluster.upstream.hold({ when: /waited/ })
  const waited = cluster.api.post('[[waited]]', { key: secret, headers: { prefer: 'wait=60' }, options })
  await within('the call of the second is in flight', held.waiting(1))
  await revoke()
  expect(await within('the poll is answered', polled)).toMatchObject({ status: 401, body: { code: 'invalid_api_key' } })
  const accepted = await within('the submit is answered', waited)
  expect(accepted).toMatchObject({ status: 202 })
  release()
  held.release()
  await cluster.ended([task, accepted.body.task_id])
  const [row] = await cluster.sql('SELECT status FROM tasks WHERE id = $1', [uuidOf(accepted.body.task_id)])
  expect(row).toEqual({ status: 'succeeded' })
})

test('revoking a key cuts off its downloads', async () => {
  const { secret, revoke, release } = await scene('download')
  const bytes = 40_000_000
  const file = await upload(`${'x'.repeat(bytes)}\n`, secret)
  const download = await open(`/v1/files/${file}/content`, secret)
  await revoke()
  // The client has read nothing since: it gets only the bytes that were already sent.
  await within(
    'a new request is refused',
    (async () => {
      while ((await cluster.api.call('GET', '/api/v1/tasks', { key: secret })).status !== 401);
    })(),
  )
  // At this pace the download takes about 12 s, longer than a revocation takes to reach every process.
  const { text, cut } = await within('the download ends', download.rest({ pauseMs: 20 }))
  expect(cut).toBe(true)
  expect(text.length).toBeLessThan(bytes)
  release()
})
