import type { Application } from '../client-app/service.ts'
import { createMetrics } from './metrics.ts'
import { createModeration } from './moderation.ts'
import { comments as routes } from './routes/comments.ts'
import type { Settings } from './settings.ts'
import { startSettling } from './settling.ts'
import { createStore, SCHEMA } from './store.ts'

export const comments: Application<Settings> = {
  name: 'comments',
  schema: SCHEMA,
  storeAway: 'Comments cannot be stored or read at the moment.',
  routes({ settings, database, registry, log, stopping, closers }) {
    const store = createStore(database)
    const metrics = createMetrics(registry, () => store.countHeld())
    const moderation = createModeration({
      url: settings.SLUICE_URL,
      apiKey: settings.SLUICE_API_KEY,
      policy: settings.SLUICE_POLICY,
      log,
      stopping,
    })
    closers.push(startSettling({ store, moderation, metrics, log }))
    return app => routes(app, { store, moderation, metrics })
  },
}
