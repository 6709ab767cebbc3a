import { Gauge, type Registry } from 'prom-client'

/** Budgets, provider limits, Redis and Postgres. */
export const resourceMetrics = (registers: [Registry]) => ({
  budgetRemaining: new Gauge({
    name: 'sluice_budget_remaining_usd',
    help: 'Lowest amount left in the current window among the budgets of a scope kind and window',
    labelNames: ['scope_kind', 'window'] as const,
    registers,
  }),
  budgetRatio: new Gauge({
    name: 'sluice_budget_remaining_ratio',
    help: 'Lowest share of the limit left in the current window among the budgets of a scope kind and window',
    labelNames: ['scope_kind', 'window'] as const,
    registers,
  }),
  permits: new Gauge({
    name: 'sluice_permits',
    help: 'Permits for calls to the provider in the whole fleet: in_use and waited_for',
    labelNames: ['provider', 'state'] as const,
    registers,
  }),
  limitUsed: new Gauge({
    name: 'sluice_limit_used_ratio',
    help: 'Used share of a provider limit, for the model that uses most of it; over the last minute, concurrency at this moment',
    labelNames: ['provider', 'limit'] as const,
    registers,
  }),
  redisBytes: new Gauge({
    name: 'sluice_redis_memory_bytes',
    help: 'Memory of Redis: used and max (0: no limit)',
    labelNames: ['redis', 'what'] as const,
    registers,
  }),
  redisEvicts: new Gauge({
    name: 'sluice_redis_evicts',
    help: 'Whether Redis evicts keys when it is full; must be 0 for the queue and 1 for the cache',
    labelNames: ['redis'] as const,
    registers,
  }),
  redisWritable: new Gauge({
    name: 'sluice_redis_writable',
    help: 'Whether the last health check of this process could write to Redis and read the value back (1) or not (0)',
    labelNames: ['redis'] as const,
    registers,
  }),
  connections: new Gauge({
    name: 'sluice_postgres_connections',
    help: 'Connection pool of this process: total and idle connections, and requests waiting for one',
    labelNames: ['state'] as const,
    registers,
  }),
  breakerState: new Gauge({
    name: 'sluice_breaker_state',
    help: 'Circuit breaker of the worst model of the provider: 0 closed, 1 half-open, 2 open',
    labelNames: ['provider'] as const,
    registers,
  }),
})
