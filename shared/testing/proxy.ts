import { createServer, type IncomingHttpHeaders, request } from 'node:http'
import { type AddressInfo, connect } from 'node:net'

export type ProxyLog = { method: string; target: string; authorization: string | undefined; host: string | undefined }

/**
 * A forward proxy for tunnels (CONNECT) and plain requests. It resolves every name to this machine and keeps the port, so a
 * request to any other name can arrive only through the proxy.
 */
export async function startProxy(options: { refuse?: () => number | null } = {}) {
  const log: ProxyLog[] = []
  const sockets = new Set<{ destroy(): void }>()
  const note = (method: string, target: string, headers: IncomingHttpHeaders) =>
    log.push({ method, target, authorization: headers['proxy-authorization'], host: headers.host })
  const server = createServer((incoming, outgoing) => {
    const url = new URL(incoming.url ?? '')
    note(incoming.method ?? '', url.origin, incoming.headers)
    const refused = options.refuse?.()
    if (refused) return void outgoing.writeHead(refused).end()
    const onward = request(
      {
        host: '127.0.0.1',
        port: url.port || 80,
        method: incoming.method,
        path: `${url.pathname}${url.search}`,
        headers: incoming.headers,
      },
      answer => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(outgoing)
      },
    )
    onward.on('error', () => outgoing.destroy())
    incoming.pipe(onward)
  })
  server.on('connection', socket => sockets.add(socket))
  server.on('connect', (incoming, socket, head) => {
    note('CONNECT', incoming.url ?? '', incoming.headers)
    socket.on('error', () => {})
    const refused = options.refuse?.()
    if (refused) return void socket.end(`HTTP/1.1 ${refused} Refused\r\n\r\n`)
    const port = Number(/:(\d+)$/.exec(incoming.url ?? '')?.[1])
    const onward = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      onward.write(head)
      socket.pipe(onward).pipe(socket)
    })
    sockets.add(onward)
    onward.on('error', () => socket.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    log,
    url: `http://127.0.0.1:${port}`,
    withPassword: `http://me:p%40ss@127.0.0.1:${port}`,
    close: () => {
      for (const socket of sockets) socket.destroy()
      return new Promise<void>(resolve => server.close(() => resolve()))
    },
  }
}

export type ForwardProxy = Awaited<ReturnType<typeof startProxy>>
