import { buildApp } from './app.ts'
import { openStore } from './store.ts'

const { DATABASE_URL, SLUICE_API_KEY: apiKey, SLUICE_URL, SLUICE_POLICY: policy, HOST, PORT, LOG_LEVEL } = process.env
if (!DATABASE_URL || !apiKey) throw new Error('set DATABASE_URL and SLUICE_API_KEY')
const baseUrl = SLUICE_URL || 'http://127.0.0.1:8080'
const app = buildApp(await openStore(DATABASE_URL), { baseUrl, apiKey, policy, logLevel: LOG_LEVEL || 'info' })
const address = await app.listen({ host: HOST || '127.0.0.1', port: Number(PORT || 8090) })

let closing = false
function close() {
  if (closing) return
  closing = true
  setTimeout(() => process.exit(1), 10_000).unref()
  app.close().then(() => process.exit(0))
}
for (const event of ['SIGTERM', 'SIGINT', 'disconnect']) process.on(event, close)
// For a parent process that waits until the service is ready.
process.send?.({ type: 'ready', port: Number(new URL(address).port) })
