import { fileURLToPath } from 'node:url'

const PRELOAD = fileURLToPath(new URL('shift-clock.ts', import.meta.url))

/** Environment variables for a Node process whose wall clock is `seconds` ahead of the machine's (negative: behind). */
export const clockShiftedBy = (seconds: number): Record<string, string> => ({
  CLOCK_SHIFT_SECONDS: String(seconds),
  NODE_OPTIONS: `--import=${PRELOAD}`,
})
