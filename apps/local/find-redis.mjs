// Plain JavaScript because bootstrap.mjs, which runs on Node 20, needs it too.
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

// redis-check-rdb is the binary of the server under another name; argv[0] selects its role. Debian and Ubuntu ship it in
// redis-tools, which, unlike redis-server, installs no system service.
const NAMES = ['redis-server', 'valkey-server', 'redis-check-rdb', 'valkey-check-rdb']

/** The first server on PATH; with TEST_REDIS=valkey only Valkey. */
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
