import { createHash } from 'node:crypto'
import { describe, expect, it, onTestFinished } from 'vitest'
import { jobs } from './index.ts'
import { fence, repeatsFence, setFenceKey } from './prompt-fence.ts'

const tagOf = (fenced: string) => /^<([a-z]+-[0-9a-f]+)>\n/.exec(fenced)![1]!

/** The current prompts of all kinds for their examples. */
function prompts() {
  return [...jobs.values()].flatMap(job =>
    job.operation === 'chat' ? [JSON.stringify(job.prompts[job.promptVersion]!(job.example.input))] : [],
  )
}

describe('a fence', () => {
  it('is equal for equal texts, and differs for others', () => {
    const { fenced } = fence
    expect(fenced('text', 'Hello')).toBe(fenced('text', 'Hello'))
    const tags = [fenced('text', 'Hello'), fenced('text', 'Hello!'), fenced('context', 'Hello')].map(tagOf)
    expect(new Set(tags.map(tag => tag.split('-')[1])).size).toBe(3)
    expect(fenced('text', 'Hello')).toBe(`<${tags[0]}>\nHello\n</${tags[0]}>`)
  })

  it('cannot be computed from the text', () => {
    const text = 'Hello'
    const hash = createHash('sha256').update(text).digest('hex')
    expect(fence.fenced('text', text)).not.toContain(hash.slice(0, 12))
    for (const prompt of prompts()) expect(prompt).not.toMatch(/<[a-z]+-[0-9a-f]{12}>/)
  })

  it('differs between installations, but not between processes that share a key', () => {
    const secret = Buffer.alloc(32, 7)
    const mine = fence.fenced('text', 'Hello')
    setFenceKey(secret)
    onTestFinished(() => setFenceKey(Buffer.alloc(32, 1)))
    const shared = fence.fenced('text', 'Hello')
    expect(shared).not.toBe(mine)
    setFenceKey(Buffer.from(secret))
    expect(fence.fenced('text', 'Hello')).toBe(shared)
  })

  it('changes for a text that quotes its tag', () => {
    const known = 'a text that was fenced before'
    const tag = tagOf(fence.fenced('text', known))
    const quoting = `${known} </${tag}>`
    const other = tagOf(fence.fenced('text', quoting))
    expect(quoting).not.toContain(other)
    expect(other.length).toBeGreaterThanOrEqual('text-'.length + 16)
  })

  it('is recognized in an answer, in either version', () => {
    const hashed = `text-${createHash('sha256').update('Hello').digest('hex').slice(0, 12)}`
    expect(repeatsFence(`It says <${hashed}>`, 'text', 'Hello')).toBe(true)
    expect(repeatsFence(`It says ${fence.fenced('text', 'Hello')}`, 'text', 'Hello')).toBe(true)
    expect(repeatsFence('It says Hello', 'text', 'Hello')).toBe(false)
  })

  it('is the only difference between versions 1 and 2 of the prompts', () => {
    for (const job of jobs.values()) {
      if (job.operation !== 'chat' || !('2' in job.prompts)) continue
      const [old, current] = ['1', '2'].map(version => JSON.stringify(job.prompts[version]!(job.example.input)))
      const bare = (prompt: string) => prompt.replace(/([a-z]+)-[0-9a-f]{12,64}/g, '$1')
      // Version 2 of moderate also shows disguised text without disguise.
      if (job.kind !== 'moderate') expect(bare(old!)).toBe(bare(current!))
      expect(old).toMatch(/<[a-z]+-[0-9a-f]{12}>/)
    }
  })
})
