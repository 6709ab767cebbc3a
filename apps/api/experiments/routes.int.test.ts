import { createHash } from 'node:crypto'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { assignVariant } from '#shared/experiments/assign.ts'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()

const HALVES = [
  { name: 'control', weight: 50 },
  { name: 'sonnet', weight: 50, model: 'claude-sonnet-5' },
]

let names = 0
const put = (name: string, variants: object[] = HALVES, kind = 'generate') =>
  stack.call('PUT', `/api/v1/experiments/${name}`, { body: { kind, variants } })

async function deleteAll() {
  const { body } = await stack.call('GET', '/api/v1/experiments')
  for (const { name } of body.data) await stack.call('DELETE', `/api/v1/experiments/${name}`)
}
afterAll(deleteAll)

/** Replaces the experiment on `generate`. */
async function begin(variants: object[] = HALVES): Promise<string> {
  await deleteAll()
  const name = `experiment-${++names}`
  expect((await put(name, variants)).status).toBe(200)
  return name
}

/** Users that get this variant. */
function usersOf(experiment: string, variant: string, count: number, variants = HALVES): string[] {
  const users: string[] = []
  for (let i = 0; users.length < count; i++)
    if (assignVariant(experiment, `user-${i}`, variants)!.name === variant) users.push(`user-${i}`)
  return users
}

const ask = (user_id: string, options: object = {}, input: object = { prompt: 'Say hello' }) =>
  stack.finished({ input, options: { user_id, ...options } })
const convert = (experiment: string, body: object, key?: string) =>
  stack.call('POST', `/api/v1/experiments/${experiment}/conversions`, { body, ...(key && { key }) })
const read = async (experiment: string) => (await stack.call('GET', `/api/v1/experiments/${experiment}`)).body

describe('an experiment', () => {
  it('is created, listed, changed and deleted', async () => {
    const name = await begin()
    const { body } = await put(name, [...HALVES, { name: 'off', weight: 0, engine: 'rules' }])
    expect(body).toMatchObject({ name, kind: 'generate' })
    expect(body.variants).toEqual([
      { ...HALVES[0], engine: 'ai' },
      { ...HALVES[1], engine: 'ai' },
      { name: 'off', weight: 0, engine: 'rules' },
    ])
    expect((await stack.call('GET', '/api/v1/experiments')).body.data).toEqual([body])
    expect((await stack.call('DELETE', `/api/v1/experiments/${name}`)).body).toEqual(body)
    expect((await stack.call('GET', `/api/v1/experiments/${name}`)).body.code).toBe('experiment_not_found')
    expect((await stack.call('DELETE', `/api/v1/experiments/${name}`)).status).toBe(404)
  })

  const [control, sonnet] = HALVES
  it.each<[string, string, object[], string]>([
    ['an unknown kind', 'nothing', HALVES, '/kind'],
    ['one variant', 'generate', [control!], '/variants'],
    ['eleven variants', 'generate', Array.from({ length: 11 }, (_, i) => ({ name: `v${i}`, weight: 1 })), '/variants'],
    ['two variants of one name', 'generate', [control!, control!], '/variants/1/name'],
    ['a weight below 0', 'generate', [control!, { name: 'b', weight: -1 }], '/variants/1/weight'],
    ['a weight that is not whole', 'generate', [control!, { name: 'b', weight: 0.5 }], '/variants/1/weight'],
    ['no weight at all', 'generate', HALVES.map(one => ({ ...one, weight: 0 })), '/variants'],
    [
      'an unknown prompt version',
      'generate',
      [{ ...control, prompt_version: 'x' }, sonnet!],
      '/variants/0/prompt_version',
    ],
    ['rules for a kind without rules', 'moderate', [control!, { ...sonnet, engine: 'rules' }], '/variants/1/engine'],
    ['a model without a price', 'generate', [control!, { ...sonnet, model: 'unknown' }], '/variants/1/model'],
  ])('is refused with %s', async (_, kind, variants, field) => {
    await begin()
    const { status, body } = await put('wrong', variants, kind)
    expect({ status, field: body.context.field }).toEqual({ status: 422, field })
    expect((await stack.call('GET', '/api/v1/experiments/wrong')).status).toBe(404)
  })

  it('is the only one of its kind and cannot change its kind', async () => {
    const name = await begin()
    expect((await put('second')).body).toMatchObject({ code: 'experiment_conflict', context: { experiment: name } })
    expect((await put(name, HALVES, 'moderate')).body).toMatchObject({ status: 409, context: { experiment: name } })
    expect((await put(name)).status).toBe(200)
  })

  it('reaches other processes', async () => {
    await begin()
    await stack.sql(`UPDATE experiments SET name = 'theirs'`)
    await vi.waitFor(async () => expect((await ask('anybody')).experiment).toMatchObject({ name: 'theirs' }), 10_000)
  })

  it('needs the admin scope', async () => {
    const { secret } = await stack.makeKey({ scopes: ['submit', 'read'] })
    for (const [method, path] of [
      ['GET', '/api/v1/experiments'],
      ['GET', '/api/v1/experiments/a'],
      ['PUT', '/api/v1/experiments/a'],
      ['DELETE', '/api/v1/experiments/a'],
    ] as const)
      expect((await stack.call(method, path, { key: secret })).status).toBe(403)
  })
})

describe('a task', () => {
  it('uses the variant of its user, always the same one', async () => {
    const name = await begin()
    const { model: usual } = (await stack.finished()).attempts[0]
    for (const { name: variant, model } of [
      { name: 'control', model: usual },
      { name: 'sonnet', model: 'claude-sonnet-5' },
    ]) {
      const [user] = usersOf(name, variant, 1)
      for (const task of [await ask(user!), await ask(user!)])
        expect(task).toMatchObject({ status: 'succeeded', experiment: { name, variant }, attempts: [{ model }] })
    }
    const { body } = await stack.call('GET', '/api/v1/tasks?limit=1')
    expect(body.data[0].experiment).toEqual({ name, variant: 'sonnet' })
  })

  it('takes its user from X-User-Id, or from the option, which wins', async () => {
    const name = await begin()
    const [control] = usersOf(name, 'control', 1)
    const [sonnet] = usersOf(name, 'sonnet', 1)
    const headers = { prefer: 'wait=30', 'x-user-id': sonnet! }
    expect((await stack.submit({}, { headers })).body.experiment).toEqual({ name, variant: 'sonnet' })
    const both = await stack.submit({ options: { user_id: control } }, { headers })
    expect(both.body.experiment).toEqual({ name, variant: 'control' })
    for (const [user, status] of [
      ['Jürgen', 400],
      ['a'.repeat(201), 400],
    ] as const)
      expect((await stack.submit({}, { headers: { 'x-user-id': user } })).status).toBe(status)
  })

  it('does not take part without a user, or with a provider or model of its own', async () => {
    const name = await begin()
    const [user] = usersOf(name, 'sonnet', 1)
    for (const options of [{}, { user_id: user, provider: 'anthropic' }, { user_id: user, model: 'claude-sonnet-5' }])
      expect((await stack.finished({ options })).experiment).toBeNull()
    expect((await read(name)).variants.map((one: { tasks: number }) => one.tasks)).toEqual([0, 0])
  })

  it('does not take part with a prompt version of its own if variants compare prompt versions', async () => {
    const name = await begin(HALVES.map(one => ({ ...one, prompt_version: '1' })))
    expect((await ask('anybody', { prompt_version: '1' })).experiment).toBeNull()
    await put(name)
    expect((await ask('anybody', { prompt_version: '1' })).experiment).toMatchObject({ name })
  })

  it('stores only a hash of its user', async () => {
    await begin()
    const user = 'jane.doe@example.com'
    const { task_id } = await ask(user)
    const id = task_id.slice('task_'.length)
    const [row] = await stack.sql<{ task: string; user_hash: Buffer; api_key_id: string }>(
      `SELECT row_to_json(t)::text AS task, user_hash, api_key_id FROM tasks t WHERE id = '${id}'`,
    )
    expect(row!.task).not.toContain('jane')
    const hash = createHash('sha256')
      .update(JSON.stringify([row!.api_key_id, user]))
      .digest()
    expect(row!.user_hash.equals(hash)).toBe(true)
  })

  it('is not answered from the cache of another variant', async () => {
    const variants = [
      { name: 'control', weight: 50 },
      { name: 'same', weight: 50 },
    ]
    const name = await begin(variants)
    const [one, other] = usersOf(name, 'control', 2, variants)
    const [foreign] = usersOf(name, 'same', 1, variants)
    const input = { prompt: 'Remember this' }
    expect((await ask(one!, { cache: 'use' }, input)).source).toBe('ai')
    const hit = await ask(other!, { cache: 'use' }, input)
    expect(hit).toMatchObject({ source: 'cache', experiment: { name, variant: 'control' } })
    expect((await stack.call('GET', `/api/v1/tasks/${hit.task_id}`)).body).toEqual(hit)
    expect((await ask(foreign!, { cache: 'use' }, input)).source).toBe('ai')
    expect((await stack.finished({ input, options: { cache: 'use' } })).source).toBe('ai')
  })

  it('is answered by a model if its variant uses rules and its kind has none', async () => {
    await begin([
      { name: 'ai', weight: 0 },
      { name: 'rules', weight: 1, engine: 'rules' },
    ])
    stack.upstream.script({ when: 'as an object', text: '{"n":1}' })
    const task = await ask('somebody', {}, { prompt: 'as an object', schema: { type: 'object' } })
    expect(task).toMatchObject({ source: 'ai', result: { n: 1 }, experiment: { variant: 'rules' } })
  })
})

it('a batch refuses user_id', async () => {
  const query = (options: object) => `kind=generate&dry_run=true&options=${JSON.stringify(options)}`
  const batch = (options: object, line: object) =>
    stack.call('POST', `/api/v1/batches?${query(options)}`, { body: [{ input: { prompt: 'Hi' }, ...line }] })
  expect((await batch({}, {})).body).toMatchObject({ valid: true })
  expect((await batch({ user_id: 'a' }, {})).body.context.field).toBe('/options/user_id')
  expect((await batch({}, { options: { user_id: 'a' } })).body).toMatchObject({ valid: false })
})

describe('a conversion', () => {
  it('counts once per user, by task or by user, also when recorded concurrently', async () => {
    const name = await begin()
    const [user, other] = usersOf(name, 'sonnet', 2)
    const { task_id } = await ask(user!)
    const answers = await Promise.all(Array.from({ length: 8 }, () => convert(name, { task_id, value: 2.5 })))
    expect(answers.map(one => one.status)).toEqual(Array(8).fill(200))
    expect(answers.filter(one => one.body.counted)).toHaveLength(1)
    expect((await convert(name, { user_id: user })).body).toEqual({
      experiment: name,
      variant: 'sonnet',
      counted: false,
    })
    await ask(other!)
    expect((await convert(name, { user_id: other, value: 0.1 })).body.counted).toBe(true)
    expect((await read(name)).variants[1]).toMatchObject({ users: 2, tasks: 2, conversions: 2, value: '2.6' })
  })

  it('needs a task or user of this experiment and key', async () => {
    const name = await begin()
    const [user] = usersOf(name, 'sonnet', 1)
    const { task_id } = await ask(user!)
    const bystander = await stack.finished()
    expect((await convert('unknown', { task_id })).body.code).toBe('experiment_not_found')
    expect((await convert(name, { task_id: bystander.task_id })).body.code).toBe('not_exposed')
    expect((await convert(name, { user_id: 'a stranger' })).body.code).toBe('not_exposed')
    for (const body of [{}, { task_id, user_id: user }]) expect((await convert(name, body)).status).toBe(422)
    const { secret } = await stack.makeKey()
    expect((await convert(name, { task_id }, secret)).body.code).toBe('task_not_found')
    expect((await convert(name, { user_id: user }, secret)).body.code).toBe('not_exposed')
    expect((await read(name)).variants.map((one: { conversions: number }) => one.conversions)).toEqual([0, 0])
  })

  it('counts for the first variant of its user after weights change', async () => {
    const name = await begin()
    const [user] = usersOf(name, 'control', 1)
    const first = await ask(user!)
    await put(
      name,
      HALVES.map(one => ({ ...one, weight: one.name === 'control' ? 0 : 1 })),
    )
    expect((await ask(user!)).experiment).toEqual({ name, variant: 'sonnet' })
    expect((await convert(name, { task_id: first.task_id })).body).toMatchObject({ variant: 'control', counted: true })
    expect((await convert(name, { user_id: user })).body).toMatchObject({ variant: 'control', counted: false })
    expect((await read(name)).variants).toMatchObject([
      { users: 1, tasks: 1, conversions: 1 },
      { users: 0, tasks: 1, conversions: 0 },
    ])
  })

  it('counts in one variant for a user of two variants', async () => {
    const name = await begin()
    const [user, other] = usersOf(name, 'control', 2)
    await ask(user!)
    await ask(other!)
    await put(
      name,
      HALVES.map(one => ({ ...one, weight: one.name === 'control' ? 0 : 1 })),
    )
    const later = await ask(user!)
    expect(later.experiment).toEqual({ name, variant: 'sonnet' })
    expect((await convert(name, { task_id: later.task_id, value: 2 })).body).toEqual({
      experiment: name,
      variant: 'control',
      counted: true,
    })
    expect((await convert(name, { user_id: user })).body).toMatchObject({ variant: 'control', counted: false })
    expect((await read(name)).variants).toMatchObject([
      { users: 2, tasks: 2, conversions: 1, rate: 0.5, value: '2' },
      { users: 0, tasks: 1, conversions: 0 },
    ])
  })

  it('of a deleted experiment does not count in a new one of the same name', async () => {
    const name = await begin()
    const [user] = usersOf(name, 'sonnet', 1)
    const { task_id } = await ask(user!)
    expect((await convert(name, { task_id })).body.counted).toBe(true)
    await stack.call('DELETE', `/api/v1/experiments/${name}`)
    await put(name)
    expect((await convert(name, { task_id })).body.code).toBe('not_exposed')
    expect((await read(name)).variants[1]).toMatchObject({ users: 0, tasks: 0, conversions: 0 })
    await ask(user!)
    expect((await convert(name, { user_id: user })).body.counted).toBe(true)
  })
})

it('the statistics cover users, conversions and costs', { timeout: 60_000 }, async () => {
  const name = await begin()
  const control = usersOf(name, 'control', 6)
  const sonnet = usersOf(name, 'sonnet', 5)
  const tasks = await Promise.all([...control, ...sonnet, sonnet[0]!].map(user => ask(user)))
  await convert(name, { user_id: control[0] })
  for (const user of sonnet.slice(0, 4)) await convert(name, { user_id: user })
  const { body: rated } = await stack.call('POST', `/api/v1/tasks/${tasks[0].task_id}/feedback`, {
    body: { score: 4 },
  })
  expect(rated.score).toBe(4)
  const { variants } = await read(name)
  const cost = (of: string) =>
    tasks.filter(one => one.experiment.variant === of).reduce((sum, one) => sum + one.cost_usd, 0)
  expect(variants[0]).toMatchObject({
    name: 'control',
    users: 6,
    tasks: 6,
    conversions: 1,
    rate: 1 / 6,
    feedback: { count: 1, mean_score: 4 },
    significance: null,
  })
  expect(variants[1]).toMatchObject({
    name: 'sonnet',
    users: 5,
    tasks: 6,
    conversions: 4,
    rate: 0.8,
    feedback: { count: 0, mean_score: null },
  })
  for (const one of variants) {
    expect(one.interval.low).toBeLessThan(one.rate)
    expect(one.interval.high).toBeGreaterThan(one.rate)
    expect(Number(one.cost_usd)).toBeCloseTo(cost(one.name), 12)
    expect(Number(one.cost_per_conversion_usd)).toBeCloseTo(cost(one.name) / one.conversions, 11)
    expect(one.latency_ms.p50).toBeGreaterThan(0)
    expect(one.latency_ms.p95).toBeGreaterThanOrEqual(one.latency_ms.p50)
  }
  // p = 5/11; z = (4/5 - 1/6) / √(5/11 × 6/11 × (1/6 + 1/5)) = 2.10051
  expect(variants[1].significance.z).toBeCloseTo(2.10051, 4)
  expect(variants[1].significance).toMatchObject({ approximates: false })
})

describe('feedback', () => {
  it('keeps the last score and is visible to its key only', async () => {
    const { secret } = await stack.makeKey()
    const { body: task } = await stack.submit({}, { key: secret, headers: { prefer: 'wait=30' } })
    const path = `/api/v1/tasks/${task.task_id}/feedback`
    expect((await stack.call('GET', path, { key: secret })).body.code).toBe('feedback_not_found')
    await stack.call('POST', path, { key: secret, body: { score: 1, note: 'Dull' } })
    const { body } = await stack.call('POST', path, { key: secret, body: { score: 5 } })
    expect(body).toMatchObject({ task_id: task.task_id, score: 5, note: null })
    expect((await stack.call('GET', path, { key: secret })).body).toEqual(body)
    const stranger = (await stack.makeKey()).secret
    expect((await stack.call('POST', path, { key: stranger, body: { score: 1 } })).body.code).toBe('task_not_found')
    expect((await stack.call('GET', path, { key: stranger })).body.code).toBe('task_not_found')
  })

  it.each([0, 6, 2.5, '3', null])('refuses the score %j', async score => {
    const { task_id } = await stack.finished()
    expect((await stack.call('POST', `/api/v1/tasks/${task_id}/feedback`, { body: { score } })).status).toBe(422)
  })
})
