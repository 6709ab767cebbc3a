/**
 * Inverts `hashtextextended(text, 0)` of Postgres, which is Bob Jenkins' lookup3. Every step is invertible, so a text with a
 * given hash is found by trying one word until the missing block is printable. An attacker can do the same.
 * Source: src/common/hashfn.c of Postgres.
 */
type State = [a: number, b: number, c: number]

const rotate = (x: number, k: number) => (x << k) | (x >>> (32 - k))

const MIX = [4, 6, 8, 16, 19, 4] as const

function mix([a, b, c]: State): State {
  for (const k of MIX) {
    a = ((a - c) | 0) ^ rotate(c, k)
    c = (c + b) | 0
    ;[a, b, c] = [b, c, a]
  }
  return [a, b, c]
}

function unmix([a, b, c]: State): State {
  for (const k of MIX.toReversed()) {
    ;[a, b, c] = [c, a, b]
    c = (c - b) | 0
    a = ((a ^ rotate(c, k)) + c) | 0
  }
  return [a, b, c]
}

const FINAL = [14, 11, 25, 16, 4, 14, 24] as const

function final([a, b, c]: State): State {
  // Each step mixes b into c, then rotates the words.
  for (const k of FINAL) {
    c = ((c ^ b) - rotate(b, k)) | 0
    ;[a, b, c] = [b, c, a]
  }
  return [c, a, b]
}

function unfinal([a, b, c]: State): State {
  ;[a, b, c] = [b, c, a]
  for (const k of FINAL.toReversed()) {
    ;[a, b, c] = [c, a, b]
    c = ((c + rotate(b, k)) | 0) ^ b
  }
  return [a, b, c]
}

function absorb(text: Buffer, length: number): State {
  const start = (0x9e3779b9 + length + 3_923_095) | 0
  let state: State = [start, start, start]
  for (let at = 0; at < text.length; at += 12) {
    const [a, b, c] = state
    state = mix([
      (a + text.readInt32LE(at)) | 0,
      (b + text.readInt32LE(at + 4)) | 0,
      (c + text.readInt32LE(at + 8)) | 0,
    ])
  }
  return state
}

/** `hashtextextended(text, 0)` of a text whose length is a multiple of 12. */
export function hashOf(text: string): bigint {
  const [, b, c] = final(absorb(Buffer.from(text), text.length))
  return BigInt.asIntN(64, (BigInt(b >>> 0) << 32n) | BigInt(c >>> 0))
}

/**
 * Finds 12 printable characters for which `hashtextextended(prefix + characters, 0)` is `hash`.
 * @param prefix its length is a multiple of 12
 * @throws if the prefix has no solution
 */
export function craft(prefix: string, hash: bigint): string {
  const [x, y, z] = absorb(Buffer.from(prefix), prefix.length + 12)
  const b = Number(BigInt.asIntN(32, hash >> 32n))
  const c = Number(BigInt.asIntN(32, hash))
  const block = Buffer.alloc(12)
  for (let a = 0; a < 2 ** 32; a++) {
    const state = unmix(unfinal([a | 0, b, c]))
    block.writeInt32LE((state[0] - x) | 0, 0)
    block.writeInt32LE((state[1] - y) | 0, 4)
    block.writeInt32LE((state[2] - z) | 0, 8)
    if (block.every(byte => byte > 0x20 && byte < 0x7f)) return block.toString('latin1')
  }
  throw new Error('no such text: choose another prefix')
}
