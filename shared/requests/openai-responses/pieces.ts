const MIN_PIECE = 32
const MAX_PIECE = 256

/**
 * Cuts a text into the pieces of its delta events. The cuts depend on the text alone, not on how it arrives, so that the events of a
 * response can be written again with the same sequence numbers.
 */
export function createCutter(): { add(more: string): string[]; rest(): string } {
  let pending = ''
  return {
    add(more) {
      pending += more
      const pieces: string[] = []
      for (let end = cutOf(pending); end !== null; end = cutOf(pending)) {
        pieces.push(pending.slice(0, end))
        pending = pending.slice(end)
      }
      return pieces
    },
    rest() {
      const rest = pending
      pending = ''
      return rest
    },
  }
}

/** The end of the first piece: before a word, or within one that is too long; null: not known yet. */
function cutOf(text: string): number | null {
  for (let end = MIN_PIECE; end < text.length; end++) {
    const isWordStart = isSpace(text[end - 1]!) && !isSpace(text[end]!)
    const isPairCut = /[\uD800-\uDBFF]/.test(text[end - 1]!)
    if (isWordStart || (end >= MAX_PIECE && !isPairCut)) return end
  }
  return null
}

const isSpace = (character: string): boolean => character === ' ' || character === '\n' || character === '\t'
