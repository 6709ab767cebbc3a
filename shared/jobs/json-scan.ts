/** Finds JSON values in a model's text, in linear time: it visits no position more than a few times. */

export type Scanned = {
  /** The values outside the model's reasoning, in order. */
  values: { text: string; end: number }[]
  /** The ends of objects that are invalid or cut off. */
  broken: number[]
  /** Number of objects that are invalid, including those without a complete key, such as `{'a': 1}`. */
  invalid: number
  /** Number of values before a closing reasoning tag without an opening one. */
  discarded: number
  /**
   * `found`: there are reasoning tags. `open`: the last opening tag is not closed. `end`: position after the last
   * closing tag.
   */
  reasoning: { found: boolean; open: boolean; end: number }
}

/**
 * Tags that open models write around their reasoning: `<think>` and its variants, those of Magistral and Kimi, and the
 * channels of gpt-oss. The chat templates of some models contain the opening tag, so that the answer has only the
 * closing one.
 */
const WORDS = '(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|seed:think)'
const CLOSING = `</${WORDS}\\s*>|\\[/THINK\\]|◁/think▷|<\\|end_of_thought\\|>|<\\|channel\\|>\\s*final\\s*<\\|message\\|>`
const OPENING = `<${WORDS}\\s*>|\\[THINK\\]|◁think▷|<\\|begin_of_thought\\|>|<\\|channel\\|>\\s*(?:analysis|commentary)\\s*<\\|message\\|>`
const MIN_TAG_LENGTH = '</think>'.length
const tag = new RegExp(`(${CLOSING})|${OPENING}`, 'iy')
const closing = new RegExp(CLOSING, 'gi')

export function scanJson(text: string): Scanned {
  const reasoning = { found: false, open: false, end: 0 }
  const found: Scanned = { values: [], broken: [], invalid: 0, discarded: 0, reasoning }
  const endReasoning = (end: number) => {
    if (!found.reasoning.open) found.discarded += found.values.length + found.invalid
    found.reasoning = { found: true, open: false, end }
    found.values = []
    found.broken = []
    found.invalid = 0
  }
  const start = /[{[<◁]/g
  for (let match = start.exec(text); match; match = start.exec(text)) {
    const at = match.index
    tag.lastIndex = at
    const tagged = tag.exec(text)
    if (tagged) {
      if (tagged[1] !== undefined) endReasoning(tag.lastIndex)
      else found.reasoning = { ...found.reasoning, found: true, open: true }
      start.lastIndex = tag.lastIndex
      continue
    }
    if (match[0] !== '{' && match[0] !== '[') continue
    const { ok, end, keyed } = valueAt(text, at)
    start.lastIndex = Math.max(end, at + 1)
    if (ok) {
      found.values.push({ text: text.slice(at, end), end })
      continue
    }
    if (match[0] === '{') found.invalid++
    // A quotation mark in reasoning can hide the tag that ends it.
    const hidden = end - at < MIN_TAG_LENGTH ? null : lastClosing(text.slice(at, end))
    if (hidden !== null) {
      endReasoning(at + hidden)
      start.lastIndex = at + hidden
    } else if (keyed) found.broken.push(end)
  }
  return found
}

/** The position after the last closing reasoning tag; null: none. */
function lastClosing(text: string): number | null {
  const ends = Array.from(text.matchAll(closing), one => one.index + one[0].length)
  return ends.at(-1) ?? null
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const SPACES = new Set([0x20, 0x09, 0x0a, 0x0d])
const scalar = /(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)/y
const escaped = /["\\/bfnrt]|u[0-9a-fA-F]{4}/y

/** `item` and `member`: an element, or the end of the list or object. */
type Expected = 'value' | 'item' | 'member' | 'key' | 'colon' | 'more'

/**
 * Scans the object or list that begins at `from`, by the grammar of RFC 8259; in a loop, because values may be nested
 * deeply.
 * @returns `end`: the position after it, or of the first error; `keyed`: the first key of an object is complete;
 * `repeats`: an object repeats a key (`JSON.parse` would use the last one)
 */
export function valueAt(text: string, from: number): { ok: boolean; end: number; keyed: boolean; repeats: boolean } {
  const open: string[] = []
  /** The keys of each open object or list. */
  const keys: Set<unknown>[] = []
  let repeats = false
  let keyed = false
  let expected = 'value' as Expected
  let at = from
  const fail = () => ({ ok: false, end: at, keyed, repeats })
  while (at < text.length) {
    if (SPACES.has(text.charCodeAt(at))) {
      at++
      continue
    }
    const char = text[at]!
    const inObject = open.at(-1) === '{'
    const wantsKey = expected === 'member' || expected === 'key'
    if (char === '}' || char === ']') {
      const mayEnd = expected === 'more' || expected === (inObject ? 'member' : 'item')
      if (!mayEnd || inObject !== (char === '}')) return fail()
      open.pop()
      keys.pop()
      at++
      if (open.length === 0) return { ok: true, end: at, keyed, repeats }
      expected = 'more'
    } else if (expected === 'more') {
      if (char !== ',') return fail()
      at++
      expected = inObject ? 'key' : 'value'
    } else if (expected === 'colon') {
      if (char !== ':') return fail()
      keyed = true
      at++
      expected = 'value'
    } else if (char === '"') {
      const end = endOfString(text, at)
      if (end < 0) {
        at = -end
        return fail()
      }
      if (wantsKey) {
        const key: unknown = JSON.parse(text.slice(at, end))
        repeats ||= keys.at(-1)!.has(key)
        keys.at(-1)!.add(key)
      }
      at = end
      expected = wantsKey ? 'colon' : 'more'
    } else if (wantsKey) return fail()
    else if (char === '{' || char === '[') {
      open.push(char)
      keys.push(new Set())
      at++
      expected = char === '{' ? 'member' : 'item'
    } else {
      scalar.lastIndex = at
      if (!scalar.test(text)) return fail()
      at = scalar.lastIndex
      expected = 'more'
    }
  }
  return fail()
}

/** The position after the string that begins at `from`; negative: the position of the first error. */
function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) return at + 1
    if (code < 0x20) return -at
    if (code !== BACKSLASH) continue
    escaped.lastIndex = at + 1
    if (!escaped.test(text)) return -at
    at = escaped.lastIndex - 1
  }
  return -text.length
}
