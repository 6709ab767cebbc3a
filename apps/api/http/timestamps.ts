const ISO_8601 = /^(\d{4}-\d\d-\d\d)(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?$/

/**
 * Parses an ISO 8601 date or time, by default in UTC. A date means the `start` or the `end` of its day.
 * @returns null: not a valid date or time
 */
export function parseTimestamp(text: string, edge: 'start' | 'end'): Date | null {
  const [, date, zone] = ISO_8601.exec(text) ?? []
  if (date === undefined) return null
  // Date would parse February 30 as March 2.
  const day = new Date(date)
  if (Number.isNaN(day.getTime()) || day.toISOString().slice(0, 10) !== date) return null
  if (text === date) return edge === 'start' ? day : new Date(day.getTime() + 86_400_000)
  const time = new Date(zone === undefined ? `${text}Z` : text)
  return Number.isNaN(time.getTime()) ? null : time
}
