export type Sentiment = { label: 'positive' | 'negative' | 'neutral'; confidence: number; score: number }
