import type { Application } from '../client-app/service.ts'
import { createAnswers } from './answers.ts'
import { createMetrics } from './metrics.ts'
import { outlines } from './routes/outlines.ts'
import { suggestions } from './routes/suggestions.ts'
import type { Settings } from './settings.ts'
import { createStore, SCHEMA } from './store.ts'
import { createSuggest } from './suggest.ts'

export const blog: Application<Settings> = {
  name: 'blog',
  schema: SCHEMA,
  storeAway: 'What was suggested before cannot be read or stored at the moment.',
  routes({ settings, database, registry, log, stopping }) {
    const store = createStore(database)
    const metrics = createMetrics(registry)
    const ask = createAnswers({ url: settings.SLUICE_URL, apiKey: settings.SLUICE_API_KEY, metrics, log, stopping })
    const suggest = createSuggest({ store, ask, metrics })
    return async app => {
      await app.register(suggestions, { store, suggest })
      await app.register(outlines, { ask })
    }
  },
}
