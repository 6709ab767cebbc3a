import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { startStack } from '#shared/testing/stack.ts'

const directory = await mkdtemp(join(tmpdir(), 'sluice-providers-'))
afterAll(() => rm(directory, { recursive: true }))
const path = join(directory, 'providers.yaml')
const patient = { timeout: 20_000 }

/** Replaces the file in one step, as configuration tools do. */
async function write(text: string): Promise<void> {
  await writeFile(`${path}.new`, text)
  await rename(`${path}.new`, path)
}

const own = (url: string) => `
providers:
  own:
    format: openai
    base_url: ${url}/v1
    key_env: OWN_KEY
    models:
      small: {upstream: vendor/small-2, price: {input: 1, output: 2}, images: false}
`
let url = ''
const stack = startStack(async upstream => {
  url = upstream.url
  await write(own(url))
  return { PROVIDERS_FILE: path, OWN_KEY: 'sk-own-key-of-this-test', OTHER_KEY: 'sk-other-key-of-this-test' }
})

const names = async () =>
  (await stack.call('GET', '/api/v1/providers')).body.data.map((one: { name: string }) => one.name)
const run = (model: string) => stack.finished({ options: { model } })
const lastCall = () => {
  const { model, headers } = stack.upstream.calls.at(-1)!
  return { model, key: headers.authorization }
}

it('a provider of the file is called by its name, with its key, and is charged at its price', async () => {
  const task = await run('own/small')
  expect(task.status).toBe('succeeded')
  expect(task.provider).toBe('own')
  expect(Number(task.cost_usd)).toBeGreaterThan(0)
  expect(lastCall()).toEqual({ model: 'vendor/small-2', key: 'Bearer sk-own-key-of-this-test' })
  expect((await run('small')).provider).toBe('own')
  expect(await names()).toEqual(['anthropic', 'own'])
  const models = (await stack.call('GET', '/api/v1/models?provider=own')).body.data
  expect(models).toEqual([expect.objectContaining({ model: 'small', configured: true, default: true })])
})

it('a provider that is not configured is refused by name', async () => {
  const answer = await stack.submit({ options: { provider: 'nowhere' } })
  expect(answer).toMatchObject({
    status: 422,
    body: { code: 'invalid_request', context: { field: '/options/provider' } },
  })
})

it('a changed file applies without a restart; an invalid one changes nothing and is counted', async () => {
  const added = `${own(url)}
  second: {format: anthropic, base_url: ${url}, key_env: OTHER_KEY, catalogue: anthropic}
aliases:
  fast: [second/claude-haiku-5-5, own/small]
`
  await write(added)
  await expect.poll(names, patient).toEqual(['anthropic', 'own', 'second'])
  await expect.poll(async () => (await stack.submit({ options: { model: 'fast' } })).status, patient).toBe(202)
  await expect.poll(async () => (await run('fast')).provider, patient).toBe('second')
  expect(lastCall()).toEqual({ model: 'claude-haiku-5-5', key: 'Bearer sk-other-key-of-this-test' })

  await write(added.replace('format: anthropic', 'format: antropic'))
  await expect
    .poll(() => metrics('api'), patient)
    .toMatch(/^sluice_provider_config_loads_total\{(?=.*"file")(?=.*"rejected").*\} 1$/m)
  expect(await names()).toEqual(['anthropic', 'own', 'second'])
  expect((await run('own/small')).status).toBe('succeeded')
})

const metrics = async (process: 'api' | 'worker') =>
  await (
    await fetch(`http://127.0.0.1:${stack[process].port}/metrics`, {
      headers: { authorization: 'Bearer the-admin-key-of-this-test' },
    })
  ).text()

it('a provider of the API is used by every process, replaces the file’s, and gives way when it is deleted', async () => {
  await write(own(url))
  await expect.poll(names, patient).toEqual(['anthropic', 'own'])
  const definition = {
    format: 'openai',
    base_url: `${url}/v1`,
    key_env: 'OTHER_KEY',
    models: { big: { price: { input: 0, output: 0 } } },
  }
  const put = (name: string, body: object) => stack.call('PUT', `/api/v1/providers/${name}`, { body })
  expect(await put('mine', definition)).toMatchObject({
    status: 200,
    body: { name: 'mine', source: 'api', format: 'openai', model: 'big', definition },
  })
  await expect.poll(async () => (await run('mine/big')).provider, patient).toBe('mine')
  expect(lastCall()).toEqual({ model: 'big', key: 'Bearer sk-other-key-of-this-test' })

  expect((await put('own', definition)).body.source).toBe('api')
  expect((await stack.call('DELETE', '/api/v1/providers/own')).status).toBe(204)
  expect((await stack.call('GET', '/api/v1/providers/own')).body.source).toBe('file')
  expect((await stack.call('DELETE', '/api/v1/providers/own')).status).toBe(404)
  expect((await stack.call('DELETE', '/api/v1/providers/mine')).status).toBe(204)
  expect((await stack.call('GET', '/api/v1/providers/mine')).status).toBe(404)
  expect((await stack.call('GET', '/api/v1/providers/anthropic')).body).toMatchObject({
    source: 'settings',
    definition: null,
  })
})

it.each([
  [{ base_url: 'http://a' }, '/format'],
  [{ format: 'openai' }, '/base_url'],
  [{ format: 'openai', base_url: 'ftp://a' }, '/base_url'],
  [{ preset: 'groq' }, '/key_env'],
  [{ preset: 'vllm', key_env: 'ADMIN_KEY' }, '/key_env'],
  [{ preset: 'vllm', key_env: 'DATABASE_URL' }, '/key_env'],
  [{ preset: 'vllm', wait: 1 }, '/wait'],
  [{ preset: 'vllm', models: { m: { price: { input: 'x', output: 1 } } } }, '/models/m/price'],
  [{ preset: 'bedrock' }, '/region'],
])('a definition that cannot be used is refused by field: %j', async (body, field) => {
  const answer = await stack.call('PUT', '/api/v1/providers/bad', { body })
  expect([answer.status, answer.body.context.field]).toEqual([422, field])
  expect((await stack.call('GET', '/api/v1/providers/bad')).status).toBe(404)
})
