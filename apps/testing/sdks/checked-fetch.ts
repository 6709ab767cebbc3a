import { type WireTypeName, wireFault } from '#shared/testing/wire-schemas.ts'

/** The type of a route's answer and of the events of its stream. */
type Types = { whole: WireTypeName; event?: WireTypeName }

/** Validates every answer that an SDK receives against the provider's description of it. */
export function checkedFetch(typesOf: (method: string, path: string) => Types | null) {
  const faults: string[] = []
  let checked = 0
  const check = (name: WireTypeName, json: string) => {
    checked++
    const fault = wireFault(name, JSON.parse(json))
    if (fault) faults.push(fault)
  }

  async function read(response: Response, { whole, event }: Types): Promise<void> {
    const text = await response.text()
    if (!response.headers.get('content-type')?.startsWith('text/event-stream')) return check(whole, text)
    if (!event) throw new Error(`${whole} is not streamed`)
    for (const frame of text.split('\n\n')) {
      const data = /^data: (.*)$/m.exec(frame)?.[1]
      if (data !== undefined && data !== '[DONE]' && !frame.startsWith('event: ping')) check(event, data)
    }
  }

  const reads: Promise<void>[] = []
  return {
    fetch: async (url: string | URL | Request, init?: RequestInit): Promise<Response> => {
      const response = await fetch(url, init)
      const path = new URL(url instanceof Request ? url.url : url).pathname
      const types = response.ok ? typesOf(init?.method ?? 'GET', path) : null
      // An aborted stream has no end to check.
      if (types)
        reads.push(
          read(response.clone(), types).catch(error =>
            error.name === 'AbortError' ? undefined : Promise.reject(error),
          ),
        )
      return response
    },
    /** The faults since the last call, after all answers have been read. @throws Error if nothing was checked */
    async faults(): Promise<string[]> {
      await Promise.all(reads.splice(0))
      if (checked === 0) throw new Error('no answer was checked')
      checked = 0
      return faults.splice(0)
    },
  }
}
