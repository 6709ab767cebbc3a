import { type Static, Type } from 'typebox'
import { defineJob } from './define.ts'
import * as earlier from './earlier-prompts.ts'
import { readJson } from './json-answer.ts'
import { plainWords } from './plain-words.ts'
import { fence } from './prompt-fence.ts'

const DEFAULT_COUNT = 5
const MAX_TITLE = 300

/** A single line, because the prompt lists values one per line. */
const line = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: '^[^\\r\\n]*$' })

const input = Type.Object(
  {
    interests: Type.Array(line(80), { minItems: 1, maxItems: 20, description: 'Subjects of the blog.' }),
    past_topics: Type.Optional(Type.Array(line(200), { maxItems: 100, description: 'Titles not to suggest again.' })),
    count: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 10, default: DEFAULT_COUNT, description: 'Number of topics.' }),
    ),
    audience: Type.Optional({ ...line(200), description: 'The intended readers.' }),
  },
  { additionalProperties: false },
)
type Input = Static<typeof input>

const topic = Type.Object(
  {
    title: Type.String({ minLength: 1, maxLength: MAX_TITLE }),
    angle: Type.String({ minLength: 1, maxLength: 1000, description: 'What the post argues or shows.' }),
  },
  { additionalProperties: false },
)
const topicsOf = (size: { minItems: number; maxItems: number }) =>
  Type.Object({ topics: Type.Array(topic, size) }, { additionalProperties: false })
const result = topicsOf({ minItems: 1, maxItems: 10 })
type Result = Static<typeof result>

const countOf = ({ count = DEFAULT_COUNT }: Input): number => count
const answerSchema = (count: number) => topicsOf({ minItems: count, maxItems: count })

const systemPrompt = `Suggest topics for blog posts. For each, write a title that attracts readers without promising more than the post can deliver, and an angle: one or two sentences on what the post argues or shows. Every topic must relate to the interests, and must differ from all other topics and all past topics in content, not only in wording. ${fence.note}`

/** Templates for titles. There are more than a request can ask for, because some results may be past topics. */
const TEMPLATES: ((interest: string) => { title: string; angle: string })[] = [
  it => ({
    title: `Getting started with ${it}`,
    angle: 'The first steps, in order, for somebody who has never tried.',
  }),
  it => ({
    title: `Five common mistakes in ${it}`,
    angle: 'What goes wrong most often, how to notice, and what to do instead.',
  }),
  it => ({ title: `What nobody tells you about ${it}`, angle: 'The lessons that are only learned by doing it.' }),
  it => ({ title: `${it}: a checklist`, angle: 'A short list to keep at hand, with a reason for every item.' }),
  it => ({
    title: `Questions and answers on ${it}`,
    angle: 'The questions that readers ask most, each answered in a paragraph.',
  }),
  it => ({ title: `How ${it} has changed`, angle: 'Then and now: what is still true, and what no longer is.' }),
  it => ({ title: `The tools we use for ${it}`, angle: 'What is worth its price, what is not, and what comes free.' }),
  it => ({ title: `${it} on a small budget`, angle: 'What matters most when time and money are short.' }),
  it => ({ title: `${it}, step by step`, angle: 'One worked example from start to finish, with nothing left out.' }),
  it => ({ title: `Myths about ${it}`, angle: 'What is widely believed, and what the evidence says.' }),
  it => ({ title: `Where to learn more about ${it}`, angle: 'The books, sites and people that are worth the time.' }),
  it => ({ title: `One week of ${it}`, angle: 'A diary of seven days, with what worked and what did not.' }),
  it => ({ title: `Is ${it} worth it?`, angle: 'For whom it is, for whom it is not, and how to find out.' }),
  it => ({ title: `The words of ${it}, explained`, angle: 'A glossary of what beginners stumble over.' }),
]

export const blogTopics = defineJob({
  kind: 'blog-topics',
  title: 'Suggest topics for a blog',
  description:
    'Suggests titles with an angle for given interests: exactly as many as requested, without repetitions and past topics.',
  queue: 'default',
  input,
  result,
  example: {
    input: { interests: ['home coffee roasting', 'espresso'], past_topics: ['Espresso: a checklist'], count: 2 },
  },
  exampleResult: {
    topics: [
      {
        title: 'Your first roast in a popcorn popper',
        angle: 'A machine for a few dollars is enough to learn what the colours and cracks of the beans mean.',
      },
      {
        title: 'Why your espresso tastes sour on Mondays',
        angle: 'What changes in beans, grinder and water over a weekend, and which of them to adjust first.',
      },
    ],
  } satisfies Result,
  promptVersion: '3',
  maxTokens: 2048,
  cache: { ttlSeconds: 86_400, staleSeconds: 604_800 },
  fallback: 'rules',

  validate({ interests }) {
    const empty = interests.findIndex(one => plainWords(one) === '')
    return empty < 0 ? null : { field: `/input/interests/${empty}`, message: 'must contain a letter or a digit' }
  },

  prompts: {
    ...earlier.blogTopics(countOf),
    3: input => ({
      system: systemPrompt,
      messages: [
        {
          role: 'user',
          content: [
            `The interests, one per line: ${fence.fenced('interests', input.interests.join('\n'))}`,
            ...(input.past_topics?.length
              ? [`The past topics, one per line: ${fence.fenced('past', input.past_topics.join('\n'))}`]
              : []),
            ...(input.audience === undefined ? [] : [`The readers: ${fence.fenced('audience', input.audience)}`]),
            `Suggest exactly ${countOf(input)} topic(s).`,
          ].join('\n\n'),
        },
      ],
      schema: answerSchema(countOf(input)) as unknown as Record<string, unknown>,
    }),
  },

  check(text, input) {
    const answer = readJson<Result>(text, answerSchema(countOf(input)))
    if (!answer.ok) return answer
    const past = new Set((input.past_topics ?? []).map(plainWords))
    const seen = new Set<string>()
    for (const [n, { title, angle }] of answer.value.topics.entries()) {
      const words = plainWords(title)
      if (words === '') return { ok: false, reason: `the title of topic ${n + 1} has no words` }
      if (plainWords(angle) === '') return { ok: false, reason: `the angle of topic ${n + 1} has no words` }
      if (past.has(words)) return { ok: false, reason: `topic ${n + 1} is one of the past topics` }
      if (seen.has(words)) return { ok: false, reason: `topic ${n + 1} repeats the title of another topic` }
      seen.add(words)
    }
    return { ok: true, result: answer.value }
  },

  /** Combines interests and templates in turn until there are enough topics. */
  rules(input) {
    const taken = new Set((input.past_topics ?? []).map(plainWords))
    const interests = input.interests.map(one => one.trim())
    const topics: Result['topics'] = []
    for (const round of TEMPLATES.keys()) {
      for (const [n, interest] of interests.entries()) {
        const { title, angle } = TEMPLATES[(round + n) % TEMPLATES.length]!(interest)
        const made = { title: title.charAt(0).toUpperCase() + title.slice(1), angle }
        const words = plainWords(made.title)
        if (taken.has(words)) continue
        taken.add(words)
        topics.push(made)
        if (topics.length === countOf(input)) return { topics } satisfies Result
      }
    }
    return null
  },

  text: result => (result as Result).topics.map(one => `${one.title}: ${one.angle}`).join('\n'),
})
