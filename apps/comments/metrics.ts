import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

export type Metrics = ReturnType<typeof createMetrics>

/** `countHeld` is asked at every scrape. */
export function createMetrics(registry: Registry, countHeld: () => Promise<number>) {
  const registers = [registry]
  new Gauge({
    name: 'comments_held',
    help: 'Comments that wait for a verdict or a person; NaN while Postgres is away',
    registers,
    async collect() {
      this.set(await countHeld().catch(() => Number.NaN))
    },
  })
  return {
    comments: new Counter({
      name: 'comments_total',
      help: 'Comments that got this status, when they came or when they were settled',
      labelNames: ['status'] as const,
      registers,
    }),
    moderationSeconds: new Histogram({
      name: 'comments_moderation_seconds',
      help: 'How long an author waited for moderation, by what came of it',
      labelNames: ['status'] as const,
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 8, 10],
      registers,
    }),
  }
}
