import type { Batch } from '../client/index.ts'

/** Text for the user. Figures that the server does not know yet are left out. */

export const dollars = (usd: number): string => `$${usd.toFixed(usd < 1 ? 4 : 2)}`

export const number = (value: number): string => value.toLocaleString('en-US', { maximumFractionDigits: 1 })

export function bytes(count: number): string {
  const units = ['bytes', 'KB', 'MB', 'GB']
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3))
  return `${number(count / 1000 ** power)} ${units[power]}`
}

export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)]
  if (hours > 0) return `${number(hours)} h ${minutes} min`
  return minutes > 0 ? `${minutes} min ${whole % 60} s` : `${whole} s`
}

/** Lines that have ended in any status. */
export const done = ({ counts }: Pick<Batch, 'counts'>): number =>
  (counts.succeeded ?? 0) + (counts.failed ?? 0) + (counts.cancelled ?? 0) + (counts.expired ?? 0)

/** `12/s`, `3 min 5 s left`, `$0.0123`, `2 failed` */
export function details({ counts, rate_per_second, eta_seconds, cost_usd }: Batch): string[] {
  return [
    ...(rate_per_second == null ? [] : [`${number(rate_per_second)}/s`]),
    ...(eta_seconds == null ? [] : [`${duration(eta_seconds)} left`]),
    ...(cost_usd == null ? [] : [dollars(cost_usd)]),
    ...(counts.failed > 0 ? [`${number(counts.failed)} failed`] : []),
  ]
}

export function standing(batch: Batch): string {
  const { total } = batch.counts
  const share =
    total > 0 ? [`${number(done(batch))} of ${number(total)} (${Math.floor((100 * done(batch)) / total)}%)`] : []
  return [batch.status.replace('_', ' '), ...share, ...details(batch)].join(', ')
}

/** The result of a batch that has ended. */
export function outcome({ status, counts, cost_usd }: Batch): string {
  const parts = (['succeeded', 'failed', 'cancelled', 'expired'] as const)
    .filter(end => end === 'succeeded' || (counts[end] ?? 0) > 0)
    .map(end => `${number(counts[end] ?? 0)} ${end}`)
  return `${status}: ${number(counts.total ?? 0)} ${counts.total === 1 ? 'line' : 'lines'}, ${parts.join(', ')}${cost_usd == null ? '' : `, ${dollars(cost_usd)}`}`
}

/** A word, quoted for a shell if necessary. */
export const quoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
