type Reviver = (key: string, value: unknown, context: { source?: string }) => unknown
/** Not available in Node 20. */
const json = JSON as object as { parse(text: string, reviver: Reviver): unknown; rawJSON?(text: string): unknown }

/**
 * JSON.parse that keeps numbers which it would round, such as ids of 19 digits: JSON.stringify prints them as they were
 * read. On Node 20 they are rounded.
 */
export function parseExactly(text: string): unknown {
  const { rawJSON } = json
  if (!rawJSON || !/\d{16}/.test(text)) return JSON.parse(text)
  return json.parse(text, (_, value, { source }) =>
    typeof value === 'number' && source !== undefined && !Number.isSafeInteger(value) && /^-?\d+$/.test(source)
      ? rawJSON(source)
      : value,
  )
}
