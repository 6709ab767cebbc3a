/** The categories of moderation. The first thirteen are those of OpenAI's moderation API. */
export const OPENAI_CATEGORIES = [
  'harassment',
  'harassment/threatening',
  'hate',
  'hate/threatening',
  'illicit',
  'illicit/violent',
  'self-harm',
  'self-harm/intent',
  'self-harm/instructions',
  'sexual',
  'sexual/minors',
  'violence',
  'violence/graphic',
] as const

export const CATEGORIES = [...OPENAI_CATEGORIES, 'spam', 'misinformation', 'personal-information', 'profanity'] as const
export type Category = (typeof CATEGORIES)[number]

/** 0: certainly not, 1: certainly. */
export type Scores = Record<Category, number>

export const scoresOf = (of: (category: Category) => number): Scores =>
  Object.fromEntries(CATEGORIES.map(category => [category, of(category)])) as Scores
