/** One event of a `text/event-stream`. */
export type Frame = { event: string; id: string | null; data: string }

/**
 * Reads a `text/event-stream` (WHATWG HTML, 9.2.6). An incomplete event at the end, comments, and events without data are
 * dropped.
 */
export async function* readFrames(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  const decoder = new TextDecoder()
  let rest = ''
  let data: string[] = []
  let event = ''
  let id: string | null = null
  for await (const chunk of bytes) {
    rest += decoder.decode(chunk, { stream: true })
    // A CR at the very end may be half of a CRLF.
    const whole = rest.endsWith('\r') ? rest.length - 1 : rest.length
    const lines = rest.slice(0, whole).split(/\r\n|\n|\r/)
    rest = lines.pop()! + rest.slice(whole)
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { event: event || 'message', id, data: data.join('\n') }
        data = []
        event = ''
        id = null
        continue
      }
      const colon = line.indexOf(':')
      const field = colon < 0 ? line : line.slice(0, colon)
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
      if (field === 'data') data.push(value)
      else if (field === 'event') event = value
      else if (field === 'id') id = value
    }
  }
}
