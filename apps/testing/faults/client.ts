import { expect } from 'vitest'
import { withoutUnsentAttempts } from '#shared/testing/attempts.ts'

/** A client of the HTTP API, as an application would write one. */

export type Answer = {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any route, checked by tests.
  body: any
}

export type CallOptions = {
  body?: unknown
  headers?: Record<string, string>
  /** null: none. */
  key?: string | null
  signal?: AbortSignal
}

export type SubmitOptions = Omit<CallOptions, 'body'> & { options?: Record<string, unknown> }

export type Client = ReturnType<typeof createClient>

export function createClient(url: string, adminKey: string) {
  const request = (method: string, path: string, o: CallOptions = {}) => {
    const key = o.key === undefined ? adminKey : o.key
    const isText = typeof o.body === 'string'
    return fetch(`${url}${path}`, {
      method,
      headers: {
        ...(key !== null && { authorization: `Bearer ${key}` }),
        ...(o.body !== undefined && { 'content-type': 'application/json' }),
        ...o.headers,
      },
      ...(o.body !== undefined && { body: isText ? (o.body as string) : JSON.stringify(o.body) }),
      ...(o.signal && { signal: o.signal }),
    })
  }
  const call = async (method: string, path: string, o: CallOptions = {}): Promise<Answer> => {
    const response = await request(method, path, o)
    const text = await response.text()
    const body = text === '' ? null : withoutUnsentAttempts(JSON.parse(text))
    return { status: response.status, headers: response.headers, body }
  }
  const post = (prompt: string, { options, ...o }: SubmitOptions = {}) =>
    call('POST', '/api/v1/tasks/generate', { ...o, body: { input: { prompt }, options: { cache: 'off', ...options } } })
  return {
    call,
    post,
    /** Submits one task, expects that it is accepted and returns its id. */
    async submit(prompt: string, o: SubmitOptions = {}): Promise<string> {
      const answer = await post(prompt, o)
      expect(answer).toMatchObject({ status: 202 })
      return answer.body.task_id
    },
    /** Submits one task per marker. @returns their ids in order of the markers */
    submitAll(markers: string[], o: SubmitOptions = {}): Promise<string[]> {
      return Promise.all(markers.map(marker => this.submit(`[[${marker}]]`, o)))
    },
    async task(id: string, wait = 0) {
      const answer = await call('GET', `/api/v1/tasks/${id}?wait=${wait}`)
      expect(answer).toMatchObject({ status: 200 })
      return answer.body
    },
    tasks(ids: string[]) {
      return Promise.all(ids.map(id => this.task(id)))
    },
    cancel: (id: string) => call('POST', `/api/v1/tasks/${id}/cancel`),
    async events(id: string, lastEventId: number | null = null): Promise<EventStream> {
      const cancel = new AbortController()
      const response = await request('GET', `/api/v1/tasks/${id}/events`, {
        signal: cancel.signal,
        ...(lastEventId !== null && { headers: { 'last-event-id': String(lastEventId) } }),
      })
      // 204: the client has had all events.
      expect([200, 204]).toContain(response.status)
      return openEventStream(response.body ?? new Blob([]).stream(), cancel)
    },
    /** Creates a key and returns its secret. */
    async makeKey(key: {
      name: string
      scopes?: string[]
      requests_per_minute?: number
      weight?: number
    }): Promise<string> {
      const answer = await call('POST', '/api/v1/keys', { body: key })
      expect(answer).toMatchObject({ status: 201 })
      return answer.body.key
    },
  }
}

// biome-ignore lint/suspicious/noExplicitAny: JSON, checked by tests.
export type ServerEvent = { event: string; id: number | null; data: any }

export type EventStream = {
  /** The events so far. */
  events: ServerEvent[]
  /** Reads until an event fits. @throws if the stream ends before */
  until(fits: (event: ServerEvent) => boolean): Promise<ServerEvent>
  /** Reads to the end. @returns all events */
  rest(): Promise<ServerEvent[]>
  /** Disconnects the client. */
  leave(): void
}

function openEventStream(body: ReadableStream<Uint8Array>, cancel: AbortController): EventStream {
  const events: ServerEvent[] = []
  const source = readEvents(body)
  const next = async (): Promise<ServerEvent | null> => {
    const { value, done } = await source.next()
    if (done) return null
    events.push(value)
    return value
  }
  return {
    events,
    async until(fits) {
      for (let event = await next(); event; event = await next()) if (fits(event)) return event
      throw new Error(`the stream ended before: ${JSON.stringify(events)}`)
    },
    async rest() {
      while (await next());
      return events
    },
    leave: () => cancel.abort(),
  }
}

async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  let text = ''
  for await (const part of body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)) {
    text += part
    const frames = text.split('\n\n')
    text = frames.pop()!
    for (const frame of frames) {
      const fields = new Map(frame.split('\n').map(line => [line.split(':', 1)[0]!, line.slice(line.indexOf(':') + 2)]))
      const event = fields.get('event')
      if (!event) continue
      const id = fields.get('id')
      yield {
        event,
        id: id === undefined ? null : Number(id),
        data: withoutUnsentAttempts(JSON.parse(fields.get('data')!)),
      }
    }
  }
}

/** The text that a client has after these events: a `restart` discards the text before it. */
export function textOf(events: ServerEvent[]): string {
  let text = ''
  for (const { event, data } of events) {
    if (event === 'restart') text = ''
    if (event === 'delta') text += data.text
  }
  return text
}
