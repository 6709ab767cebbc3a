import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** Preloaded into a server that does not announce itself (`--import`): sends `ready` when `ANNOUNCE_PORT` accepts connections. */
const port = Number(process.env.ANNOUNCE_PORT)

const accepts = () =>
  new Promise<boolean>(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })

async function announce() {
  while (!(await accepts())) await sleep(50)
  process.send?.({ type: 'ready', port })
}
void announce()
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))
