import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { TaskView } from '#shared/db/tasks/read.ts'
import { isTerminal, type TaskStatus } from '#shared/db/tasks/row.ts'
import type { StreamEntry } from './stream.ts'
import { type TaskEvent, taskEvents } from './task-events.ts'

/** The contents of Postgres and Redis at one moment of a task's life. */
type Moment = { status: TaskStatus; attempts: number; entries: StreamEntry[]; source?: 'ai' | 'rules'; text?: string }

const entry = (attempt: number, n: number, type: StreamEntry['type'], text = ''): StreamEntry => ({
  attempt,
  n,
  type,
  text,
})
const viewOf = (moment: Moment, stream = true) =>
  ({
    status: moment.status,
    attempts: moment.attempts,
    source: moment.source ?? null,
    result: moment.text,
    stream,
  }) as TaskView

/** Plays a life to one subscriber: whenever it waits for a change, `advance` gives the moment that it sees next. */
async function follow(
  life: Moment[],
  options: {
    last?: number | null
    at?: number
    stream?: boolean
    /** How many events it takes before it goes away. */
    take?: number
    /** The next moment that it sees. */
    advance?: (at: number) => number
    /** The state may advance between two reads. */
    between?: (at: number) => number
  } = {},
) {
  const { stream = true, take = Number.POSITIVE_INFINITY, advance = at => at + 1, between = at => at } = options
  let at = options.at ?? 0
  const events: TaskEvent[] = []
  const source = taskEvents(
    {
      readState: async () => ({ id: 'task', status: life[at]!.status, attempts: life[at]!.attempts }),
      readEntries: async after => {
        at = Math.min(between(at), life.length - 1)
        return life[at]!.entries.filter(
          one => one.attempt > after.attempt || (one.attempt === after.attempt && one.n > after.n),
        )
      },
      readView: async () => viewOf(life[at]!, stream),
      textOf: view => String(view.result),
      waitForChange: async () => {
        at = Math.min(advance(at), life.length - 1)
        return true
      },
    },
    options.last ?? null,
  )
  if (take > 0)
    for await (const event of source) {
      events.push(event)
      if (events.length >= take) break
    }
  return { events, at }
}

/** The text that a client assembles from its events. */
const read = (events: TaskEvent[]) =>
  events.reduce((text, { event, data }) => (event === 'restart' ? '' : event === 'delta' ? text + data.text : text), '')
const lastId = (events: TaskEvent[]) => events.findLast(event => event.id !== null)?.id ?? null
const summary = (events: TaskEvent[]) =>
  events.map(({ event, id, data }) => {
    const what = event === 'delta' ? ` ${data.text}` : event === 'status' ? ` ${data.status}` : ''
    return `${event}${what} ${id ?? '-'}`
  })

const HELLO = [entry(1, 0, 'b'), entry(1, 1, 'd', 'Hel'), entry(1, 2, 'd', 'lo')]
const SUCCEEDED: Moment = {
  status: 'succeeded',
  attempts: 1,
  entries: [...HELLO, entry(1, 3, 'e')],
  source: 'ai',
  text: 'Hello',
}

describe('task events', () => {
  it('cover a task from its start to its end', async () => {
    const { events } = await follow([
      { status: 'queued', attempts: 0, entries: [] },
      { status: 'running', attempts: 1, entries: [] },
      { status: 'running', attempts: 1, entries: HELLO.slice(0, 2) },
      { status: 'running', attempts: 1, entries: HELLO },
      SUCCEEDED,
    ])
    expect(summary(events)).toEqual([
      'status queued 0',
      'status running 1000000',
      'delta Hel 1000001',
      'delta lo 1000002',
      'done 1999999',
    ])
  })

  it('are complete for a late subscriber', async () => {
    const { events } = await follow([SUCCEEDED])
    expect(summary(events)).toEqual(['status running 1000000', 'delta Hel 1000001', 'delta lo 1000002', 'done 1999999'])
  })

  it('void the text of a failed attempt', async () => {
    const again = [entry(2, 0, 'b'), entry(2, 1, 'd', 'Bye')]
    const { events } = await follow([
      { status: 'running', attempts: 1, entries: HELLO },
      { status: 'queued', attempts: 1, entries: HELLO },
      { status: 'running', attempts: 2, entries: again },
      { status: 'succeeded', attempts: 2, entries: [...again, entry(2, 2, 'e')], source: 'ai', text: 'Bye' },
    ])
    expect(summary(events)).toEqual([
      'status running 1000000',
      'delta Hel 1000001',
      'delta lo 1000002',
      'status queued 1999997',
      'restart -',
      'status running 2000000',
      'delta Bye 2000001',
      'done 2999999',
    ])
  })

  it('bring the whole text from Postgres when the stream is lost', async () => {
    const { events } = await follow([
      { status: 'running', attempts: 1, entries: HELLO },
      { ...SUCCEEDED, entries: [] },
    ])
    expect(summary(events).slice(-3)).toEqual(['restart -', 'delta Hello 1999998', 'done 1999999'])
    expect(read(events)).toBe('Hello')
  })

  it('withhold text after a gap and restart with the whole text', async () => {
    const gap = [entry(1, 0, 'b'), entry(1, 1, 'd', 'a'), entry(1, 3, 'd', 'c')]
    const { events } = await follow([
      { status: 'running', attempts: 1, entries: gap },
      { status: 'running', attempts: 1, entries: [...gap, entry(1, 4, 'w', 'abcd')] },
      { status: 'succeeded', attempts: 1, entries: [entry(1, 4, 'w', 'abcd'), entry(1, 5, 'e')], source: 'ai' },
    ])
    expect(summary(events)).toEqual([
      'status running 1000000',
      'delta a 1000001',
      'restart -',
      'delta abcd 1000004',
      'done 1999999',
    ])
  })

  it('do not accept an end mark after a gap', async () => {
    const entries = [entry(1, 0, 'b'), entry(1, 1, 'd', 'a'), entry(1, 3, 'e')]
    const { events } = await follow([{ status: 'succeeded', attempts: 1, entries, source: 'ai', text: 'ab' }])
    expect(read(events)).toBe('ab')
  })

  it('void the text of a model when the rules answer in the end', async () => {
    const { events } = await follow([
      { status: 'running', attempts: 1, entries: HELLO },
      { ...SUCCEEDED, source: 'rules', text: 'Sorry' },
    ])
    expect(read(events)).toBe('Sorry')
  })

  it('bring the text of the rules when no model was called', async () => {
    const { events } = await follow([{ status: 'succeeded', attempts: 0, entries: [], source: 'rules', text: 'Sorry' }])
    expect(summary(events)).toEqual(['delta Sorry 999998', 'done 999999'])
  })

  it.each(['failed', 'cancelled', 'expired'] as const)('bring no text when a task is %s', async status => {
    const { events } = await follow([{ status, attempts: 1, entries: [] }])
    expect(summary(events)).toEqual(['done 1999999'])
  })

  it('bring no text of a task that does not stream', async () => {
    const { events } = await follow([{ ...SUCCEEDED, entries: [] }], { stream: false })
    expect(summary(events)).toEqual(['done 1999999'])
  })

  it('are none for an unknown task or a client that has seen the end', async () => {
    const gone = taskEvents(
      {
        readState: async () => null,
        readView: async () => null,
        readEntries: async () => [],
        textOf: () => '',
        waitForChange: async () => true,
      },
      null,
    )
    expect(await gone.next()).toEqual({ done: true, value: undefined })
    expect((await follow([SUCCEEDED], { last: 1_999_999 })).events).toEqual([])
  })

  it('end when the subscriber stops', async () => {
    let looks = 0
    const source = taskEvents(
      {
        readState: async () => ({ id: 'task', status: 'queued', attempts: 0 }),
        readView: async () => null,
        readEntries: async () => [],
        textOf: () => '',
        waitForChange: async () => ++looks < 3,
      },
      null,
    )
    const events: TaskEvent[] = []
    for await (const event of source) events.push(event)
    expect(events).toHaveLength(1)
    expect(looks).toBe(3)
  })

  it('do not return to queued after the stream has shown a later attempt', async () => {
    const { events } = await follow(
      [
        { status: 'queued', attempts: 1, entries: HELLO },
        { status: 'running', attempts: 2, entries: [entry(2, 0, 'b'), entry(2, 1, 'd', 'Bye')] },
        { status: 'succeeded', attempts: 2, entries: [], source: 'ai', text: 'Bye' },
      ],
      { between: at => Math.max(at, 1) },
    )
    expect(summary(events).slice(0, 2)).toEqual(['status running 2000000', 'delta Bye 2000001'])
    expect(summary(events)).not.toContain('status queued 1999997')
  })
})

/** Any life of a task that streams: attempts that fail, wait, lose parts of their stream, are overtaken; then an end. */
const life = fc
  .record({
    attempts: fc.array(
      fc.record({
        pieces: fc.array(fc.constantFrom('a', 'bc', '😀', ' '), { maxLength: 5 }),
        /** Whether Redis was away or flushed while the n-th piece came. */
        lost: fc.array(fc.constantFrom('no', 'no', 'no', 'away', 'flushed'), { minLength: 5, maxLength: 5 }),
        waits: fc.boolean(),
      }),
      { maxLength: 3 },
    ),
    end: fc.constantFrom<TaskStatus>('succeeded', 'succeeded', 'succeeded', 'failed', 'cancelled', 'expired'),
    source: fc.constantFrom('ai' as const, 'rules' as const),
    ended: fc.constantFrom('marked', 'unmarked', 'gone'),
  })
  .map(({ attempts, end, source, ended }) => {
    const moments: Moment[] = [{ status: 'queued', attempts: 0, entries: [] }]
    let entries: StreamEntry[] = []
    let whole = ''
    attempts.forEach((one, index) => {
      const attempt = index + 1
      let n = 0
      let intact = true
      whole = ''
      moments.push({ status: 'running', attempts: attempt, entries })
      entries = [entry(attempt, 0, 'b')]
      moments.push({ status: 'running', attempts: attempt, entries })
      one.pieces.forEach((piece, at) => {
        whole += piece
        n++
        if (one.lost[at] === 'away') intact = false
        else if (one.lost[at] === 'flushed') [entries, intact] = [[], false]
        else {
          entries = [...entries, intact ? entry(attempt, n, 'd', piece) : entry(attempt, n, 'w', whole)]
          intact = true
        }
        moments.push({ status: 'running', attempts: attempt, entries })
      })
      const last = index === attempts.length - 1
      if (last && intact && ended === 'marked') entries = [...entries, entry(attempt, n + 1, 'e')]
      if (last && ended === 'gone') entries = []
      if (!last && one.waits) moments.push({ status: 'queued', attempts: attempt, entries })
    })
    const by = attempts.length === 0 ? 'rules' : source
    const text = by === 'ai' ? whole : 'Sorry'
    moments.push({ status: end, attempts: attempts.length, entries, source: by, text })
    return moments
  })
const strides = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 8 })

describe('task events, for any history of task, stream and connection', () => {
  const stepper = (strides: number[]) => {
    let step = 0
    // Zero strides for ever would be a task that never ends.
    return (at: number) => at + Math.max(step % strides.length === 0 ? 1 : 0, strides[step++ % strides.length]!)
  }

  it('give the client the whole text once, and the end as the last event', async () => {
    await fc.assert(
      fc.asyncProperty(life, strides, strides, async (life, strides, races) => {
        let race = 0
        const { events } = await follow(life, {
          advance: stepper(strides),
          between: at => (isTerminal(life[at]!.status) ? at : at + (races[race++ % races.length]! % 2)),
        })
        const { status, text } = life.at(-1)!
        if (status === 'succeeded') expect(read(events)).toBe(text)
        expect(events.at(-1)!.event).toBe('done')
        expect(events.filter(one => one.event === 'done')).toHaveLength(1)
        const ids = events.flatMap(one => one.id ?? [])
        expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b))
      }),
      { numRuns: 1000 },
    )
  })

  it('lose and repeat nothing for a client that resumes after any event', async () => {
    await fc.assert(
      fc.asyncProperty(life, strides, fc.array(fc.nat({ max: 8 }), { maxLength: 6 }), async (life, strides, takes) => {
        const advance = stepper(strides)
        const received: TaskEvent[] = []
        let at = 0
        for (const take of [...takes, Number.POSITIVE_INFINITY]) {
          const part = await follow(life, { last: lastId(received), at, take, advance })
          received.push(...part.events)
          at = part.at
        }
        const { status, text } = life.at(-1)!
        if (status === 'succeeded') expect(read(received)).toBe(text)
        expect(received.at(-1)!.event).toBe('done')
        const ids = received.flatMap(one => one.id ?? [])
        expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b))
      }),
      { numRuns: 1000 },
    )
  })

  it('resume after every id of an undisturbed stream', async () => {
    const pieces = Array.from('The quick brown fox')
    const entries = [
      entry(1, 0, 'b'),
      ...pieces.map((text, index) => entry(1, index + 1, 'd', text)),
      entry(1, pieces.length + 1, 'e'),
    ]
    const life: Moment[] = [{ status: 'succeeded', attempts: 1, entries, source: 'ai', text: pieces.join('') }]
    const { events: all } = await follow(life)
    for (let take = 1; take <= all.length; take++) {
      const before = all.slice(0, take)
      const { events: after } = await follow(life, { last: lastId(before) })
      expect([...before, ...after]).toEqual(all)
    }
  })
})
