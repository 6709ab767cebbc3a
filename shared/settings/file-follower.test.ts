import { expect, it } from 'vitest'
import { createFileFollower } from './file-follower.ts'

/** A follower of a file whose reads are scripted; null: the read fails. */
async function follow(reads: (string | null)[]) {
  const events: string[] = []
  const rest = [...reads]
  const follower = createFileFollower({
    initial: 'old',
    read: async () => {
      const text = rest.shift() ?? null
      if (text === null) throw new Error('no file')
      return text
    },
    apply: text => void events.push(text),
    fail: () => void events.push('failed'),
  })
  for (const _ of reads) await follower.poll()
  return events
}

it('a change applies once, when two reads in a row agree', async () => {
  expect(await follow(['old', 'new', 'new', 'new'])).toEqual(['new'])
  expect(await follow(['ne', 'new', 'new'])).toEqual(['new'])
  expect(await follow(['ne', 'old', 'ne'])).toEqual([])
})

it('a file that cannot be read twice in a row is reported once, until it can be read', async () => {
  expect(await follow([null, 'old'])).toEqual([])
  expect(await follow([null, null, null, 'old', null, null])).toEqual(['failed', 'failed'])
  expect(await follow([null, null, 'new', 'new'])).toEqual(['failed', 'new'])
})
