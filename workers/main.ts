import { hostname, setPriority } from 'node:os'
import { parseArgs } from 'node:util'
import { ConfigError, parseConfig, secretsOf } from '#shared/config.ts'
import { logConsole } from '#shared/process/console.ts'
import { keepHeapSmall } from '#shared/process/heap.ts'
import { announceReady, runUntilSignal } from '#shared/process/lifecycle.ts'
import { createLogger } from '#shared/process/logger.ts'
import { retireOnOrder } from '#shared/process/parent-ipc.ts'
import { QUEUES } from '#shared/queue/names.ts'
import { startWorker } from './worker.ts'

const { values } = parseArgs({ options: { queues: { type: 'string' }, 'demo-ms': { type: 'string' } } })
const queues = values.queues?.split(',') ?? [...QUEUES]

/** Niceness of a process that runs only batches: no client waits for it, so it yields to the other processes of its machine. */
const BATCH_NICENESS = 10

keepHeapSmall()
try {
  const unknown = queues.find(queue => !(QUEUES as readonly string[]).includes(queue))
  if (unknown !== undefined) throw new ConfigError(`--queues: unknown queue "${unknown}" (known: ${QUEUES.join(', ')})`)
  if (queues.every(queue => queue === 'batch')) setPriority(BATCH_NICENESS)
  const config = parseConfig(process.env)
  const logger = createLogger({
    level: config.LOG_LEVEL,
    name: 'worker',
    pretty: process.stdout.isTTY,
    secrets: secretsOf(config),
  })
  logConsole(logger)
  const worker = await startWorker({
    config,
    queues,
    logger,
    host: hostname(),
    pid: process.pid,
    demoMs: Number(values['demo-ms'] ?? 0),
  })
  const { lifecycle, port } = worker
  runUntilSignal(process, lifecycle, logger, (config.DRAIN_SECONDS + 8) * 1000)
  retireOnOrder(process, () => void worker.retire().finally(() => process.exit(0)))
  announceReady(process, port)
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exit(78)
}
