import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { textOf } from './client.ts'
import { type Cluster, PATIENT, startCluster, within } from './cluster.ts'

vi.setConfig(PATIENT)

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ apis: 2 })
})
afterAll(() => cluster?.close())
beforeEach(() => cluster.begin())

const STREAM = { options: { stream: true } }
const TEXT = 'Ein Gedicht über Redis, mit 🎈 und Umlauten, in vielen Stücken.'

/** Submits a task whose answer stops half way until `release`. */
async function halfWay(name: string, script = {}) {
  const { api, upstream } = cluster
  upstream.script({ text: TEXT, chunks: 16, ...script })
  const held = upstream.hold({ midway: true })
  const id = await api.submit(`[[${name}]]`, STREAM)
  await within('half of the answer is out', held.waiting(1))
  return { id, release: held.release }
}

const ids = (events: { id: number | null }[]) => events.map(event => event.id)

test('a subscriber gets the text as it is written, and a late subscriber gets all of it', async () => {
  const { apis } = cluster
  const { id, release } = await halfWay('live')
  const early = await apis[0]!.events(id)
  await early.until(event => event.event === 'delta')
  // The task has not ended: the text so far belongs to an answer that is still being written.
  expect(await apis[0]!.task(id)).toMatchObject({ status: 'running', result: null })
  release()
  const events = await early.rest()
  expect(events.at(-1)).toEqual({
    event: 'done',
    id: 1_999_999,
    data: await apis[0]!.task(id),
  })
  expect(events.at(-1)!.data).toMatchObject({ status: 'succeeded', result: { text: TEXT } })
  expect(textOf(events)).toBe(TEXT)
  expect(events.filter(event => event.event === 'done')).toHaveLength(1)
  expect(events.some(event => event.event === 'restart')).toBe(false)

  const late = await (await apis[1]!.events(id)).rest()
  expect(late.filter(event => event.event !== 'status')).toEqual(events.filter(event => event.event !== 'status'))
})

test('Last-Event-ID resumes a stream at another API, without loss or repeat', async () => {
  const { apis } = cluster
  const { id, release } = await halfWay('resumed')
  const first = await apis[0]!.events(id)
  const last = await first.until(event => event.event === 'delta')
  first.leave()
  const second = await apis[1]!.events(id, last.id)
  release()
  const rest = await second.rest()
  expect(textOf([...first.events, ...rest])).toBe(TEXT)
  expect(rest.some(event => event.event === 'restart')).toBe(false)
  const seen = ids([...first.events, ...rest])
  expect(seen).toEqual([...new Set(seen)].sort((a, b) => a! - b!))
})

test('Last-Event-ID of any event returns exactly the events after it', async () => {
  const { apis } = cluster
  const { id, release } = await halfWay('everywhere')
  release()
  await cluster.ended([id])
  const all = await (await apis[0]!.events(id)).rest()
  // Status, text and end; the number of deltas depends on how fast Redis takes them.
  expect(all.length).toBeGreaterThanOrEqual(3)
  for (const [index, event] of all.entries()) {
    const rest = await (await apis[index % 2]!.events(id, event.id)).rest()
    expect(rest, `after ${event.id}`).toEqual(all.slice(index + 1))
  }
})

test('a new attempt restarts the text', async () => {
  const { apis } = cluster
  const { id, release } = await halfWay('again', { text: 'This text is discarded.', fault: 'cut_midway' })
  cluster.upstream.script({ text: TEXT, chunks: 16 })
  const early = await apis[0]!.events(id)
  const lost = await early.until(event => event.event === 'delta')
  // This subscriber leaves with text of the first attempt and comes back during the second.
  const resumed = await apis[1]!.events(id, lost.id)
  release()
  const [events, rest] = [await early.rest(), await resumed.rest()]
  for (const one of [events, [...early.events.slice(0, early.events.indexOf(lost) + 1), ...rest]]) {
    expect(one.map(event => event.event)).toContain('restart')
    expect(textOf(one)).toBe(TEXT)
  }
  expect(rest.find(event => event.event === 'restart')).toMatchObject({ data: { attempt: 2 } })
  const done = events.at(-1)!
  expect(done).toMatchObject({
    event: 'done',
    id: 2_999_999,
    data: { attempts: [{ outcome: 'connection' }, { outcome: 'succeeded' }] },
  })
  // A later subscriber sees nothing of the first attempt.
  const late = await (await apis[1]!.events(id)).rest()
  expect(late.some(event => event.event === 'restart')).toBe(false)
  expect(textOf(late)).toBe(TEXT)
})

test('a subscriber that already has all events gets none', async () => {
  const { apis } = cluster
  const { id, release } = await halfWay('over')
  release()
  const all = await (await apis[0]!.events(id)).rest()
  expect(await (await apis[1]!.events(id, all.at(-1)!.id)).rest()).toEqual([])
})

test('a cancelled task ends its streams', async () => {
  const { apis } = cluster
  const { id, release } = await halfWay('cancelled')
  const stream = await apis[0]!.events(id)
  await stream.until(event => event.event === 'delta')
  expect(await apis[1]!.cancel(id)).toMatchObject({ status: 200 })
  expect((await stream.rest()).at(-1)).toMatchObject({ event: 'done', data: { status: 'cancelled', result: null } })
  release()
})

test('a malformed Last-Event-ID is refused', async () => {
  const { api } = cluster
  const id = await api.submit('[[any]]')
  const answer = await api.call('GET', `/api/v1/tasks/${id}/events`, { headers: { 'last-event-id': 'x' } })
  expect(answer).toMatchObject({ status: 400, body: { context: { field: '/last-event-id' } } })
})
