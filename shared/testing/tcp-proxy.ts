import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export type TcpProxy = Awaited<ReturnType<typeof startTcpProxy>>

/**
 * A TCP proxy in front of the server at port `target`. It can close, drop the server's responses, and redirect new
 * connections to another port, like an address that follows a failover.
 */
export async function startTcpProxy(target: number) {
  let targetPort = target
  const sockets = new Set<Socket>()
  let dropsResponses = false
  const server = createServer(client => {
    const upstream = connect(targetPort, '127.0.0.1')
    sockets.add(client)
    upstream.on('data', data => (dropsResponses ? client.destroy() : client.write(data)))
    client.on('data', data => upstream.write(data))
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
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
    /** New connections go to this port. */
    redirect: (port: number) => {
      targetPort = port
    },
    /** While on, closes the client's connection in place of a response. */
    dropResponses: (on: boolean) => {
      dropsResponses = on
    },
    async close() {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
