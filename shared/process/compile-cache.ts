import { fileURLToPath } from 'node:url'

/** Environment in which Node caches compiled source files, so that processes start sooner. It is optional: the directory may be read-only. */
export const COMPILE_CACHE = {
  NODE_COMPILE_CACHE: fileURLToPath(new URL('../../node_modules/.cache/compile', import.meta.url)),
}
