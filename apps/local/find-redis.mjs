// Plain JavaScript because bootstrap.mjs, which runs on Node 20, needs it too.
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

// redis-check-rdb is the server's own binary under another name, and picks its role by argv[0]. Debian and Ubuntu ship
// it in redis-tools, which, unlike their redis-server, installs no system service.
const NAMES = ['redis-server', 'valkey-server', 'redis-check-rdb', 'valkey-check-rdb']

/** The first that is there; with TEST_REDIS=valkey no other than Valkey will do. */
export function findRedis(path = process.env.PATH ?? '', only = process.env.TEST_REDIS === 'valkey' ? 'valkey' : '') {
  for (const name of NAMES.filter(name => name.startsWith(only))) {
    for (const dir of path.split(delimiter).filter(Boolean)) {
      const command = join(dir, name)
      try {
        accessSync(command, constants.X_OK)
        if (statSync(command).isFile()) return { command, argv0: name.replace('check-rdb', 'server') }
      } catch {
        // Not in this directory.
      }
    }
  }
  return null
}
