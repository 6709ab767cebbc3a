import { type Fields, names, unwrap } from './parse.ts'

/**
 * Functions with a numeric argument that determines the size of the result. They are harmless if the query shows that
 * the number is small. Each check returns why a call is refused; null: allowed.
 */
export const BOUNDED = new Map<string, (args: Fields[]) => string | null>([
  ['lpad', ([, length]) => padRefusal('lpad', length)],
  ['rpad', ([, length]) => padRefusal('rpad', length)],
  ['repeat', ([text, count]) => repeatRefusal(text, count)],
  ['format', ([template]) => formatRefusal(template)],
  ['generate_series', ([start, stop, step]) => seriesRefusal(start, stop, step)],
])

/** Maximum characters to which lpad, rpad or a field of format may fill up, and that repeat may create. */
const MAX_LENGTH = 1000
const MAX_REPEATED = 10_000
/** Maximum rows of one generate_series. */
const MAX_SERIES = 100_000

function padRefusal(name: string, length: Fields | undefined): string | null {
  const to = numberOf(length)
  return to !== null && to <= MAX_LENGTH ? null : `${name} is allowed with a constant length of at most ${MAX_LENGTH}`
}

function repeatRefusal(text: Fields | undefined, count: Fields | undefined): string | null {
  const size = textOf(text)?.length
  const times = numberOf(count)
  const fits = size !== undefined && times !== null && size * times <= MAX_REPEATED
  return fits ? null : `repeat is allowed with constants that make at most ${MAX_REPEATED} characters`
}

function formatRefusal(template: Fields | undefined): string | null {
  const text = textOf(template)
  if (text === undefined) return 'format is allowed with a constant template'
  for (const [, width] of text.matchAll(/%(?:\d+\$)?-*(\*|\d*)/g)) {
    if (width === '*' || Number(width) > MAX_LENGTH) return `format is allowed with widths of at most ${MAX_LENGTH}`
  }
  return null
}

function seriesRefusal(start?: Fields, stop?: Fields, step?: Fields): string | null {
  const rows = rowsOfNumbers(start, stop, step) ?? rowsOfTimes(start, stop, step)
  return rows !== null && rows <= MAX_SERIES
    ? null
    : `generate_series is allowed between constants, or times relative to now, with at most ${MAX_SERIES} rows`
}

function rowsOfNumbers(start?: Fields, stop?: Fields, step?: Fields): number | null {
  const from = numberOf(start)
  const to = numberOf(stop)
  const by = step === undefined ? 1 : numberOf(step)
  if (from === null || to === null || by === null || by === 0) return null
  return Math.floor((to - from) / by) + 1
}

/** A time in milliseconds, known within a range: since 1970 or, with `isNow`, relative to now. */
type Time = { isNow: boolean; min: number; max: number }
type Range = { min: number; max: number }

const DAY = 86_400_000
/** Length of each unit: months and years vary, and days by daylight saving time. */
const UNITS: Record<string, Range> = {
  second: { min: 1000, max: 1000 },
  minute: { min: 60_000, max: 60_000 },
  hour: { min: 3_600_000, max: 3_600_000 },
  day: { min: DAY - 3_600_000, max: DAY + 3_600_000 },
  week: { min: 7 * DAY - 3_600_000, max: 7 * DAY + 3_600_000 },
  month: { min: 27.9 * DAY, max: 31.1 * DAY },
  quarter: { min: 89.9 * DAY, max: 92.1 * DAY },
  year: { min: 364.9 * DAY, max: 366.1 * DAY },
}
/** The assumed range of now, for queries that mix dates with now. */
const CENTURY = { min: Date.UTC(2000), max: Date.UTC(2100) }

function rowsOfTimes(start?: Fields, stop?: Fields, step?: Fields): number | null {
  const [from, to, by] = [timeOf(start), timeOf(stop), intervalOf(step)]
  // The step may be zero or have either sign.
  if (!from || !to || !by || by.min * by.max <= 0) return null
  const mixed = from.isNow !== to.isNow
  const [a, b] = mixed ? [dated(from), dated(to)] : [from, to]
  const span = by.min > 0 ? b.max - a.min : a.max - b.min
  return Math.floor(span / Math.min(Math.abs(by.min), Math.abs(by.max))) + 1
}

const dated = ({ isNow, min, max }: Time): Range =>
  isNow ? { min: CENTURY.min + min, max: CENTURY.max + max } : { min, max }

const ISO = /^(\d{4})-(\d{2})-(\d{2})(?:[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?(?:Z|[+-]\d{2}(?::?\d{2})?)?$/
const TIME_TYPES = new Set(['date', 'timestamp', 'timestamptz'])
const NOW = /^SVFOP_(CURRENT_DATE|CURRENT_TIMESTAMP|LOCALTIMESTAMP)$/

function timeOf(node: Fields | undefined): Time | null {
  const text = textOf(node)
  if (text !== undefined) {
    const [, year, month, day] = ISO.exec(text) ?? []
    const at = Date.UTC(Number(year), Number(month) - 1, Number(day))
    return year === undefined ? null : { isNow: false, min: at - DAY, max: at + 2 * DAY }
  }
  const one = node && unwrap(node)
  if (one?.type === 'SQLValueFunction' && NOW.test(String(one.fields.op)))
    return { isNow: true, min: -2 * DAY, max: 2 * DAY }
  if (one?.type === 'TypeCast') {
    return TIME_TYPES.has(typeOf(one.fields) ?? '') ? widened(timeOf(one.fields.arg as Fields), 2 * DAY, 2 * DAY) : null
  }
  if (one?.type === 'FuncCall') return timeOfCall(one.fields)
  if (one?.type !== 'A_Expr' || one.fields.kind !== 'AEXPR_OP') return null
  const [operator] = names(one.fields.name)
  const time = timeOf(one.fields.lexpr as Fields)
  const right = one.fields.rexpr as Fields
  const days = numberOf(right)
  const by = days === null ? intervalOf(right) : { min: days * DAY, max: days * DAY }
  if (!time || !by || (operator !== '+' && operator !== '-')) return null
  return operator === '+'
    ? { ...time, min: time.min + by.min, max: time.max + by.max }
    : { ...time, min: time.min - by.max, max: time.max - by.min }
}

function timeOfCall({ funcname, args = [] }: Fields): Time | null {
  const [name, ...more] = names(funcname)
  if (more.length > 0) return null
  if (name === 'now') return { isNow: true, min: 0, max: 0 }
  const [unit, of] = args as Fields[]
  const length = UNITS[textOf(unit)?.toLowerCase() ?? '']
  return name === 'date_trunc' && length ? widened(timeOf(of), length.max, 0) : null
}

const widened = (time: Time | null, before: number, after: number): Time | null =>
  time && { ...time, min: time.min - before, max: time.max + after }

const PART = /^\s*([+-]?\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+?)s?(?=\s|$)/i

function intervalOf(node: Fields | undefined): Range | null {
  const one = node && unwrap(node)
  const isCast = one?.type === 'TypeCast' && typeOf(one.fields) === 'interval'
  let rest = textOf(isCast ? (one.fields.arg as Fields) : node)
  if (!rest || (one?.type === 'TypeCast' && !isCast)) return null
  let min = 0
  let max = 0
  while (rest.trim() !== '') {
    const part = PART.exec(rest)
    const unit = UNITS[part?.[2]?.toLowerCase() ?? '']
    if (!part || !unit) return null
    const ends = [Number(part[1]) * unit.min, Number(part[1]) * unit.max]
    min += Math.min(...ends)
    max += Math.max(...ends)
    rest = rest.slice(part[0].length)
  }
  return { min, max }
}

/** The type of a simple cast; null: another cast. */
function typeOf({ typeName }: Fields): string | null {
  const { names: list, typmods, arrayBounds } = typeName as Fields
  return typmods === undefined && arrayBounds === undefined ? (names(list).at(-1) ?? null) : null
}

const NUMBER_TYPES = new Set(['int2', 'int4', 'int8', 'numeric'])

/** null: not a constant number. */
function numberOf(node: Fields | undefined): number | null {
  const one = node && unwrap(node)
  if (one?.type === 'TypeCast' && NUMBER_TYPES.has(typeOf(one.fields) ?? '')) return numberOf(one.fields.arg as Fields)
  if (one?.type !== 'A_Const') return null
  const { ival, fval } = one.fields as { ival?: { ival?: number }; fval?: { fval?: string } }
  const value = ival ? (ival.ival ?? 0) : fval ? Number(fval.fval) : Number.NaN
  return Number.isFinite(value) ? value : null
}

/** undefined: not a constant text. */
function textOf(node: Fields | undefined): string | undefined {
  const one = node && unwrap(node)
  if (one?.type !== 'A_Const' || one.fields.sval === undefined) return undefined
  return (one.fields.sval as { sval?: string }).sval ?? ''
}
