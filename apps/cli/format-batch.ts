import type { Batch, OpenAIBatch } from '../client/index.ts'
import { dollars, number, standing } from './format.ts'

/** Output of `sluice batch status`. */
export function statusText(batch: Batch): string {
  const { id, created_at, cost_bound_usd, output_file_id, error_file_id, errors } = batch
  return [
    `${id}  ${standing(batch)}`,
    `created ${created_at}`,
    ...(cost_bound_usd == null ? [] : [`maximum cost ${dollars(cost_bound_usd)}`]),
    ...(output_file_id == null ? [] : [`output ${output_file_id}`]),
    ...(error_file_id == null ? [] : [`errors ${error_file_id}`]),
    ...(errors ?? []).map(({ line, code, message }) => `${line == null ? '' : `line ${line}: `}${code}: ${message}`),
  ].join('\n')
}

/** Output of `sluice batch list`: one batch per line. */
export const listText = (batches: OpenAIBatch[]): string => batches.map(rowText).join('\n')

function rowText({ id, status, created_at, endpoint, request_counts: counts }: OpenAIBatch): string {
  const lines = counts ? `${number(counts.completed + counts.failed)}/${number(counts.total)}` : ''
  const failed = counts && counts.failed > 0 ? `${number(counts.failed)} failed` : ''
  return [id, status.padEnd(11), new Date(created_at * 1000).toISOString(), endpoint, lines, failed]
    .join('  ')
    .trimEnd()
}
