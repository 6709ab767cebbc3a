const MOMENT = /^(\d{4}-\d\d-\d\d)(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?$/

/**
 * An ISO 8601 date or time; UTC if it names no zone. A date stands for the `start` or the `end` of its day.
 * @returns null if it is none
 */
export function parseMoment(text: string, edge: 'start' | 'end'): Date | null {
  const [, date, zone] = MOMENT.exec(text) ?? []
  if (date === undefined) return null
  // Date itself would take February 30 for March 2.
  const day = new Date(date)
  if (Number.isNaN(day.getTime()) || day.toISOString().slice(0, 10) !== date) return null
  if (text === date) return edge === 'start' ? day : new Date(day.getTime() + 86_400_000)
  const moment = new Date(zone === undefined ? `${text}Z` : text)
  return Number.isNaN(moment.getTime()) ? null : moment
}
