import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export type Door = Awaited<ReturnType<typeof startDoor>>

/** What stands between a client and the server at `target`: it can be shut, and it can keep what is answered to itself. */
export async function startDoor(target: number) {
  const sockets = new Set<Socket>()
  let swallows = false
  const server = createServer(client => {
    const behind = connect(target, '127.0.0.1')
    sockets.add(client)
    behind.on('data', data => (swallows ? client.destroy() : client.write(data)))
    client.on('data', data => behind.write(data))
    for (const [one, other] of [
      [client, behind],
      [behind, client],
    ] as const) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
    client.on('close', () => sockets.delete(client))
  })
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const port = await listen(0)
  return {
    port,
    open: () => listen(port),
    swallow: (on: boolean) => {
      swallows = on
    },
    async shut() {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
