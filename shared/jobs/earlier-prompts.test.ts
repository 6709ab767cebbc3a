import { createHash } from 'node:crypto'
import { afterAll, expect, it } from 'vitest'
import { jobs } from './index.ts'
import { setFenceKey } from './prompt-fence.ts'

const INPUTS: Record<string, object[]> = {
  ask: [{ question: 'How many legs?', contexts: [{ id: 'bees', text: 'A bee has six legs.' }] }],
  'blog-outline': [
    { topic: 'Bees' },
    { topic: 'Bees', audience: 'Children', length: 'short', points: ['Honey', 'Wax'] },
  ],
  'blog-topics': [{ interests: ['bees'] }, { interests: ['a', 'b'], past_topics: ['c', 'd'], audience: 'e', count: 2 }],
  classify: [{ text: 'Fine.' }, { text: 'Fine.', labels: ['good', 'bad'], instructions: 'Judge the tone.' }],
  moderate: [{ text: 'Hello.' }, { texts: ['I will kіll', 'you b', 'y Monday.'], context: 'A forum' }],
  query: [
    { question: 'How many?', schema: { tables: [{ name: 'a', columns: [{ name: 'b' }] }] }, dialect: 'postgres' },
    { question: 'How many?', schema: { tables: [] }, dialect: 'postgres', max_rows: 7 },
  ],
  summarize: [
    { text: 'A long text.' },
    { text: 'A long text.', style: 'bullets', language: 'French', max_sentences: 2 },
  ],
  translate: [
    { text: 'Hello', target: 'German' },
    { text: 'Hello', target: 'German', source: 'English' },
  ],
}

/** SHA-256, shortened, of the prompts for the inputs above, by kind and version. */
const DIGESTS: Record<string, string> = {
  'ask version 1': '49d952cecbb89d0d',
  'ask version 2': '4aacab3f1aacaba4',
  'blog-outline version 1': 'b0b9a92a3aed8d84',
  'blog-outline version 2': 'f6f171a4761baceb',
  'blog-topics version 1': '697c10c9dc4def44',
  'blog-topics version 2': '597eb372cc638d48',
  'classify version 1': '30798cbc27745c50',
  'classify version 2': '3f95c415395948cf',
  'moderate version 1': 'b427b6cbb797e967',
  'moderate version 2': 'c476d4a43afac677',
  'query version 1': '6857de88e047245f',
  'query version 2': '80d33c7e3fcb3255',
  'summarize version 1': '70a6017379120d5b',
  'summarize version 2': '6e45cf33ffa0eda3',
  'translate version 1': '061005b745ef96d2',
  'translate version 2': 'e59f4bd2bd2caf9f',
}

const key = Buffer.alloc(32, 1)
setFenceKey(key)
afterAll(() => setFenceKey(key))

it.each(Object.keys(DIGESTS))('%s never changes', name => {
  const [kind, version] = name.split(' version ') as [string, string]
  const prompts = INPUTS[kind]!.map(input => jobs.get(kind)!.prompts[version]!(input))
  expect(createHash('sha256').update(JSON.stringify(prompts)).digest('hex').slice(0, 16)).toBe(DIGESTS[name])
})

it('covers every version before the current one', () => {
  const earlier = [...jobs.values()].flatMap(job =>
    Object.keys(job.prompts)
      .filter(version => version !== job.promptVersion)
      .map(version => `${job.kind} version ${version}`),
  )
  expect(Object.keys(DIGESTS).toSorted()).toEqual(earlier.toSorted())
})
