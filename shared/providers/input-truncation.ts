import { lowerBoundTokens } from '#shared/models/tokens.ts'
import { inputTokenBound } from '#shared/requests/bounds.ts'
import { messageText } from '#shared/requests/text.ts'
import { CallFailure, type CallRequest, type Usage } from './define.ts'

/**
 * Some servers cut a prompt to their context window and still answer 200. Their count of prompt tokens shows it: it is
 * less than the minimum that `lowerBoundTokens` computes for the prompt.
 */

/** No server has a smaller window. A prompt that certainly fits into it is not checked. */
const MIN_WINDOW = 2048
/** A server that cuts a prompt fills its window, so a lower count is wrong, or excludes cached tokens. */
const MIN_CREDIBLE_COUNT = 256

type SentPrompt = Pick<CallRequest, 'system' | 'messages'>

const fitsSmallestWindow = ({ system, messages }: SentPrompt): boolean =>
  inputTokenBound({ ...(system !== undefined && { system }), messages }) <= MIN_WINDOW

const leastTokens = ({ system, messages }: SentPrompt): number =>
  lowerBoundTokens({
    system,
    messages: messages.map(one => ({
      role: one.role === 'assistant' ? 'assistant' : 'user',
      content: messageText(one),
    })),
  })

/** @throws CallFailure context_exceeded if an OpenAI-compatible server cannot have read the whole prompt */
export function assertNotTruncated(sent: SentPrompt, usage: Usage | null): void {
  if (usage === null || usage.inputTokens < MIN_CREDIBLE_COUNT || fitsSmallestWindow(sent)) return
  if (usage.inputTokens < leastTokens(sent)) throw truncated(usage)
}

/**
 * The same check for Ollama, which may drop whole messages, so that low counts are credible. It fills the window with
 * the rest, so a count of the whole window means that the prompt was cut. Without a count (versions before 0.4 exclude
 * cached tokens) Sluice cannot know that a long prompt was read.
 * @param window the requested context size
 * @throws CallFailure context_exceeded
 */
export function assertWindowNotFilled(sent: SentPrompt, usage: Usage | null, window: number): void {
  if (fitsSmallestWindow(sent)) return
  const read = usage?.inputTokens ?? 0
  if (read >= window || isWindowSize(read) || read < leastTokens(sent)) throw truncated(usage)
}

/**
 * A server that ignores the requested size fills its own, a power of two. Prompts hardly ever have exactly such a
 * length.
 */
const isWindowSize = (tokens: number): boolean => tokens >= MIN_WINDOW && Number.isInteger(Math.log2(tokens))

const truncated = (usage: Usage | null): CallFailure =>
  new CallFailure(
    'context_exceeded',
    usage?.inputTokens
      ? `The server read ${usage.inputTokens} tokens of a longer prompt`
      : 'The server did not report how much of the prompt it read',
    { usage, begun: true },
  )
