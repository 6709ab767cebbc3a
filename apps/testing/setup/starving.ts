import { Worker } from 'bullmq'

/**
 * Loaded before a worker (`--import`): ends its fetch loop, like a bug or a half-open connection. The worker still sends
 * heartbeats and answers requests.
 */
Object.assign(Worker.prototype, { _getNextJob: () => new Promise(() => {}) })
