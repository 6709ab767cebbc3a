/**
 * Follows the text of a file that others write. A change counts when two reads in a row agree on it, so that a file which is still
 * being written is not read as it stands.
 * @param options.read the text of the file. Rejects if it cannot be read
 * @param options.apply receives each new text once
 * @param options.fail receives the error of a read, once until the next success
 */
export function createFileFollower(options: {
  initial: string
  read(): Promise<string>
  apply(text: string): void
  fail(error: unknown): void
}) {
  const { read, apply, fail } = options
  let applied = options.initial
  let pending: string | null = null
  let failed = false
  return {
    /** Reads the file. @returns true: it has changed, and counts if the next read agrees */
    async poll(): Promise<boolean> {
      let text: string
      try {
        text = await read()
      } catch (error) {
        // An editor may replace the file in two steps.
        const isPending = pending === FAILED
        if (isPending && !failed) fail(error)
        failed ||= isPending
        pending = FAILED
        return !isPending
      }
      failed = false
      if (text === applied) {
        pending = null
        return false
      }
      if (text !== pending) {
        pending = text
        return true
      }
      pending = null
      applied = text
      apply(text)
      return false
    },
  }
}

/** No text of a file. */
const FAILED = '\0'
