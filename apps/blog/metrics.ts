import { Counter, Histogram, type Registry } from 'prom-client'

export type Metrics = ReturnType<typeof createMetrics>

export function createMetrics(registry: Registry) {
  const registers = [registry]
  return {
    answers: new Counter({
      name: 'blog_answers_total',
      help: 'Answers of Sluice, by who gave them and how good that is',
      labelNames: ['kind', 'source', 'quality'] as const,
      registers,
    }),
    unanswered: new Counter({
      name: 'blog_unanswered_total',
      help: 'Questions that Sluice had no answer to, by the code that the client was told',
      labelNames: ['kind', 'code'] as const,
      registers,
    }),
    answerSeconds: new Histogram({
      name: 'blog_answer_seconds',
      help: 'How long an answer took, by who gave it',
      labelNames: ['kind', 'source'] as const,
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30],
      registers,
    }),
    repeated: new Counter({
      name: 'blog_topics_repeated_total',
      help: 'Topics of an answer that were dropped, as their author had them before',
      registers,
    }),
  }
}
