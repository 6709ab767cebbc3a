import { type Static, Type } from 'typebox'
import { defineJob } from './define.ts'
import * as earlier from './earlier-prompts.ts'
import { readJson } from './json-answer.ts'
import { plainWords } from './plain-words.ts'
import { fence } from './prompt-fence.ts'

const MAX_HEADING = 300
const MAX_POINTS = 10

/** Number of sections by length. */
const SECTIONS = { short: { min: 3, max: 5 }, medium: { min: 5, max: 8 }, long: { min: 8, max: 12 } } as const
type Length = keyof typeof SECTIONS
const LENGTHS = Object.keys(SECTIONS) as Length[]
const DEFAULT_LENGTH = 'medium'

/** A single line, because the prompt lists values one per line. */
const line = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: '^[^\\r\\n]*$' })

const input = Type.Object(
  {
    topic: { ...line(200), description: 'Subject of the post, such as a title.' },
    audience: Type.Optional({ ...line(200), description: 'The intended readers.' }),
    length: Type.Optional(
      Type.Enum(LENGTHS, {
        default: DEFAULT_LENGTH,
        description: `Sections: ${LENGTHS.map(one => `${one} ${SECTIONS[one].min} to ${SECTIONS[one].max}`).join(', ')}.`,
      }),
    ),
    points: Type.Optional(Type.Array(line(200), { maxItems: 10, description: 'Points that the post must cover.' })),
  },
  { additionalProperties: false },
)
type Input = Static<typeof input>

const section = Type.Object(
  {
    heading: Type.String({ minLength: 1, maxLength: MAX_HEADING }),
    points: Type.Array(Type.String({ minLength: 1, maxLength: 1000 }), { minItems: 1, maxItems: MAX_POINTS }),
  },
  { additionalProperties: false },
)
const outlineOf = (size: { minItems: number; maxItems: number }) =>
  Type.Object(
    { title: Type.String({ minLength: 1, maxLength: MAX_HEADING }), sections: Type.Array(section, size) },
    { additionalProperties: false },
  )
const result = outlineOf({ minItems: SECTIONS.short.min, maxItems: SECTIONS.long.max })
type Result = Static<typeof result>
type Section = Result['sections'][number]

const sizeOf = ({ length = DEFAULT_LENGTH }: Input) => SECTIONS[length]
const answerSchema = (input: Input) => outlineOf({ minItems: sizeOf(input).min, maxItems: sizeOf(input).max })

const systemPrompt = `Write the outline of a blog post: a title, and the sections in order. Give each section its own heading, and its points as short sentences. The first section tells readers why to read on, and the last one what to do next. Each section in between builds on the previous ones. Cover every required point. Write in the language of the topic. ${fence.note}`

const OPENING: Section = {
  heading: 'Why this matters',
  points: [
    'A situation that the reader knows, and what is at stake in it.',
    'What the post will answer, in one sentence.',
  ],
}
const CLOSING: Section = {
  heading: 'What to do next',
  points: ['The one thing to remember.', 'A first step that takes less than an hour.'],
}
/** Generic sections that fit most posts; enough for the longest outline without points from the client. */
const BODY: Section[] = [
  { heading: 'The basics', points: ['The terms that the rest needs, each in a sentence.', 'What it is not.'] },
  { heading: 'How it works', points: ['The main idea, with an example.', 'Where its limits are.'] },
  {
    heading: 'Step by step',
    points: ['What is needed before the start.', 'The steps in order, each with its result.'],
  },
  { heading: 'Common mistakes', points: ['What goes wrong most often.', 'How to notice early, and what to do then.'] },
  { heading: 'A worked example', points: ['A real case from start to finish.', 'What it shows that advice cannot.'] },
  { heading: 'Choices and their price', points: ['The alternatives.', 'For whom each of them is the right one.'] },
  { heading: 'Questions that readers ask', points: ['The most frequent doubts, each answered shortly.'] },
]

/** Turns the client's points into sections: one each if they fit, otherwise several per section. */
function sectionsOf(points: string[], most: number): Section[] {
  const each = Math.ceil(points.length / most) || 1
  return Array.from({ length: Math.ceil(points.length / each) }, (_, n) => {
    const [first, ...others] = points.slice(n * each, (n + 1) * each)
    const generic = ['What the reader must know of it.', 'An example that shows it.']
    return { heading: first!, points: others.length > 0 ? [first!, ...others] : generic }
  })
}

export const blogOutline = defineJob({
  kind: 'blog-outline',
  title: 'Outline a post for a blog',
  description: 'Writes a title and sections with their points for a topic. `length` determines the number of sections.',
  queue: 'default',
  input,
  result,
  example: {
    input: { topic: 'Your first roast in a popcorn popper', length: 'short', points: ['first and second crack'] },
  },
  exampleResult: {
    title: 'Your first roast in a popcorn popper',
    sections: [
      { heading: 'Why roast at home', points: ['Fresh beans for half the price.', 'A popper is enough to learn on.'] },
      {
        heading: 'Listening for first and second crack',
        points: ['First crack is a light roast.', 'Second crack comes fast: stop before it for the first time.'],
      },
      { heading: 'Cool, rest, taste', points: ['Cool within four minutes.', 'Wait a day before the first cup.'] },
    ],
  } satisfies Result,
  promptVersion: '3',
  maxTokens: 4096,
  cache: { ttlSeconds: 86_400, staleSeconds: 604_800 },
  fallback: 'rules',

  validate({ topic, points }) {
    if (plainWords(topic) === '') return { field: '/input/topic', message: 'must contain a letter or a digit' }
    const empty = (points ?? []).findIndex(one => plainWords(one) === '')
    return empty < 0 ? null : { field: `/input/points/${empty}`, message: 'must contain a letter or a digit' }
  },

  prompts: {
    ...earlier.blogOutline(sizeOf, input => answerSchema(input) as unknown as Record<string, unknown>),
    3: input => ({
      system: systemPrompt,
      messages: [
        {
          role: 'user',
          content: [
            `The topic: ${fence.fenced('topic', input.topic)}`,
            ...(input.audience === undefined ? [] : [`The readers: ${fence.fenced('audience', input.audience)}`]),
            ...(input.points?.length
              ? [`Required points, one per line: ${fence.fenced('points', input.points.join('\n'))}`]
              : []),
            `Give ${sizeOf(input).min} to ${sizeOf(input).max} sections.`,
          ].join('\n\n'),
        },
      ],
      schema: answerSchema(input) as unknown as Record<string, unknown>,
    }),
  },

  check(text, input) {
    const answer = readJson<Result>(text, answerSchema(input))
    if (!answer.ok) return answer
    const { title, sections } = answer.value
    if (plainWords(title) === '') return { ok: false, reason: 'the title has no words' }
    const seen = new Set<string>()
    for (const [n, { heading, points }] of sections.entries()) {
      const words = plainWords(heading)
      if (words === '') return { ok: false, reason: `the heading of section ${n + 1} has no words` }
      if (seen.has(words)) return { ok: false, reason: `section ${n + 1} repeats the heading of another section` }
      if (points.some(one => plainWords(one) === '')) {
        return { ok: false, reason: `a point of section ${n + 1} has no words` }
      }
      seen.add(words)
    }
    return { ok: true, result: answer.value }
  },

  rules(input) {
    const { min, max } = sizeOf(input)
    const seen = new Set([OPENING, CLOSING].map(one => plainWords(one.heading)))
    const isNew = (heading: string) => !seen.has(plainWords(heading)) && seen.add(plainWords(heading))
    const body = sectionsOf((input.points ?? []).map(one => one.trim()).filter(isNew), max - 2)
    const more = BODY.filter(one => isNew(one.heading)).slice(0, Math.max(0, min - 2 - body.length))
    const topic = input.topic.trim()
    const title = topic.charAt(0).toUpperCase() + topic.slice(1)
    return { title, sections: [OPENING, ...body, ...more, CLOSING] } satisfies Result
  },

  text(result) {
    const { title, sections } = result as Result
    return [title, ...sections.flatMap(one => [`## ${one.heading}`, ...one.points.map(point => `- ${point}`)])].join(
      '\n',
    )
  },
})
