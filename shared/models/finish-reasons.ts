/**
 * Why a model stopped writing: one vocabulary for every provider, from the adapter to the ledger, the task, the cache
 * and the compatible surfaces.
 * - `stop`: the answer is complete.
 * - `length`: the answer was cut off at its token limit or at the end of the context window.
 * - `refusal`: the model declined; the text is its explanation.
 * - `content_filter`: the provider withheld the rest of the answer, or all of it.
 * - `tool_calls`: the model asks for tools.
 * - `other`: a reason that the provider does not document.
 */
export const FINISH_REASONS = ['stop', 'length', 'content_filter', 'refusal', 'tool_calls', 'other'] as const
export type FinishReason = (typeof FINISH_REASONS)[number]

/** Whether the model or its provider declined the request, so that the text is not an answer. */
export const isRefusal = (reason: FinishReason | null): boolean => reason === 'refusal' || reason === 'content_filter'
