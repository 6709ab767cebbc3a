/** A Redis or Valkey server on PATH, to be started with this argv[0]. */
export function findRedis(path?: string): { command: string; argv0: string } | null
