import { expect, vi } from 'vitest'
import type { Stack } from './stack.ts'

/** Creates and follows native batches like a client. */

export const BATCHES = '/api/v1/batches'
export type Settings = Record<string, string>
export type NativeBatch = {
  id: string
  urls: Record<'self' | 'results' | 'events' | 'cancel' | 'retry', string>
}

/** The path to create a batch with these settings in the query. */
export const batchesWith = (settings: Settings) => `${BATCHES}?${new URLSearchParams(settings)}`
/** Settings with which every line calls a model: no cache, no fallback. */
export const asking = (more: Settings = {}, options = {}): Settings => ({
  kind: 'generate',
  options: JSON.stringify({ cache: 'off', fallback: 'none', ...options }),
  ...more,
})
/** A line whose prompt has its name as a marker, so that the upstream counts its calls. */
export const line = (custom_id: string) => ({ custom_id, input: { prompt: `[[${custom_id}]]` } })
export const numbered = (count: number) => Array.from({ length: count }, (_, i) => `line-${i + 1}`)
export const jsonl = (lines: unknown[]) => lines.map(one => `${JSON.stringify(one)}\n`).join('')
export const eventsOf = (text: string) =>
  [...text.matchAll(/^event: (\w+)\ndata: (.*)\n\n/gm)].map(([, event, data]) => ({ event, data: JSON.parse(data!) }))

/** @param key the API key of the current test */
export function createNative(stack: Stack, key: () => string) {
  const call = (method: string, path: string, more: object = {}) => stack.call(method, path, { key: key(), ...more })
  const send = (settings: Settings, body: unknown, type = 'application/json') =>
    call('POST', batchesWith(settings), { body, headers: { 'content-type': type } })

  async function start(names: string[], settings = asking()): Promise<NativeBatch> {
    const answer = await send(settings, names.map(line))
    expect(answer.status).toBe(202)
    return answer.body
  }
  /** Resolves to the data of the last event, when the batch has ended. */
  async function ended({ urls }: Pick<NativeBatch, 'urls'>) {
    const { event, data } = eventsOf((await call('GET', urls.events)).body).at(-1)!
    expect(event).toBe('done')
    expect((await call('GET', urls.self)).body).toEqual(data)
    return data
  }
  /** Counts of visible files, of files being written, and of batches. Hidden files are not counted: the sweeper deletes them. */
  const kept = async () =>
    (
      await stack.sql(`SELECT (SELECT count(*)::int FROM files WHERE status = 'processed') AS files,
        (SELECT count(*)::int FROM files WHERE status = 'uploading') AS uploads, (SELECT count(*)::int FROM batches) AS batches`)
    )[0]

  return {
    call,
    send,
    sendForm(fields: Settings, content: string | null, name = 'in.jsonl', query: Settings = {}) {
      const form = new FormData()
      if (content !== null) form.set('file', new File([content], name))
      for (const [name, value] of Object.entries(fields)) form.set(name, value)
      return call('POST', Object.keys(query).length > 0 ? batchesWith(query) : BATCHES, { body: form })
    },
    start,
    ended,
    run: async (names: string[], settings?: Settings) => ended(await start(names, settings)),
    resultsOf: async ({ urls }: Pick<NativeBatch, 'urls'>) =>
      ((await call('GET', urls.results)).body as string)
        .split('\n')
        .slice(0, -1)
        .map(one => JSON.parse(one)),
    until: ({ urls }: NativeBatch, fits: object) =>
      vi.waitFor(async () => expect((await call('GET', urls.self)).body).toMatchObject(fits), { timeout: 20_000 }),
    prompts: () => stack.upstream.calls.map(one => one.prompt).toSorted(),
    asked: () => stack.upstream.markers(),
    kept,
    leavesNothing: (before: unknown) =>
      vi.waitFor(async () => expect(await kept()).toEqual(before), { timeout: 10_000 }),
  }
}
