import { fileURLToPath } from 'node:url'

/**
 * For the environment of our processes: Node keeps there what it has made of the source files, by their content, and starts a
 * process sooner. It does without where it may not write.
 */
export const COMPILE_CACHE = {
  NODE_COMPILE_CACHE: fileURLToPath(new URL('../node_modules/.cache/compile', import.meta.url)),
}
