import { type Batch, batchHasEnded } from '../client/index.ts'
import { checkOutput, download, errorsPath } from './download.ts'
import { ALL_SUCCEEDED, CANNOT, explain, Failure, Interrupted, SOME_FAILED } from './failure.ts'
import { number, outcome, quoted } from './format.ts'
import { STANDARD } from './input.ts'
import { printResults } from './print-results.ts'
import { persistently, type Session } from './session.ts'
import { type StartOptions, start } from './start-batch.ts'

const FIRST_POLL_MS = 100
const MAX_POLL_MS = 2_000
/** Errors of a failed batch that are printed. */
const MAX_PROBLEMS = 20

/** `sluice batch run`. @returns the exit code */
export async function run(session: Session, options: StartOptions): Promise<number> {
  const { progress } = session
  if (options.output !== STANDARD) await checkOutput(options.output, options.input === STANDARD ? null : options.input)
  if (options.input === STANDARD) progress.say(`reading standard input${isTerminal(session) ? '; Ctrl-D ends it' : ''}`)
  const { id, how } = await start(session, options).catch((error: unknown) => {
    if (error instanceof Interrupted) {
      progress.say('interrupted; if the batch has started already, the same command resumes it')
    }
    throw error
  })
  const said = {
    started: `started ${id}; Ctrl-C leaves it running`,
    running: `${id} with this input is running already: resuming it (--anew starts a new batch)`,
    ended: `${id} with this input has ended already: downloading its answers (--anew starts a new batch)`,
  }
  progress.say(said[how])
  return finish(session, id, options.output)
}

const isTerminal = ({ stdin }: Pick<Session, 'stdin'>): boolean => (stdin as { isTTY?: boolean }).isTTY === true

/** `sluice batch resume`. @returns the exit code */
export async function resume(session: Session, { id, output }: { id: string; output: string }): Promise<number> {
  if (output !== STANDARD) await checkOutput(output)
  // Fails at once if there is no such batch.
  await session.client.batches.get(id, { signal: session.signal })
  return finish(session, id, output)
}

async function finish(session: Session, id: string, output: string): Promise<number> {
  const { progress } = session
  let over = false
  try {
    const batch = await follow(session, id)
    over = true
    progress.end()
    return batch.status === 'failed' ? reportFailed(session, batch) : await fetchResults(session, batch, output)
  } catch (error) {
    progress.end()
    const back = session.command(`resume ${id} -o ${quoted(output)}`)
    if (error instanceof Interrupted && !over) {
      const cancel = session.command(`cancel ${id}`)
      progress.say(`${id} continues. To resume:\n  ${back}\nTo cancel it:\n  ${cancel}`)
    } else if (error instanceof Interrupted || explain(error) !== null) {
      progress.say(`To ${over ? 'download the answers of' : 'resume'} ${id}:\n  ${back}`)
    }
    throw error
  }
}

async function follow(session: Session, id: string): Promise<Batch> {
  for (let wait = FIRST_POLL_MS; ; wait = Math.min(wait * 1.5, MAX_POLL_MS)) {
    const batch = await persistently(session, () => session.client.batches.get(id, { signal: session.signal }))
    session.progress.update(batch)
    if (batchHasEnded(batch.status)) return batch
    await session.pause(wait)
  }
}

function reportFailed({ progress }: Session, { id, errors }: Batch): number {
  progress.say(`sluice: ${id} failed`)
  for (const { line, code, message } of (errors ?? []).slice(0, MAX_PROBLEMS)) {
    progress.say(`  ${line == null ? '' : `line ${number(line)}: `}${code}: ${message}`)
  }
  const more = (errors?.length ?? 0) - MAX_PROBLEMS
  if (more > 0) progress.say(`  and ${number(more)} more`)
  return CANNOT
}

async function fetchResults(session: Session, batch: Batch, output: string): Promise<number> {
  const { counts } = batch
  const outputFile = batch.output_file_id ?? null
  const errorFile = batch.error_file_id ?? null
  if (outputFile === null && errorFile === null && counts.succeeded > 0) {
    throw new Failure(`${batch.id} has no output file; its answers are at /api/v1/batches/${batch.id}/results`)
  }
  const results = { answers: outputFile, errors: errorFile }
  if (output === STANDARD) await printResults(session, results, session)
  else await download(session, results, output)
  session.progress.say(outcome(batch))
  if (output !== STANDARD)
    session.progress.say(`answers in ${output}${errorFile === null ? '' : `, errors in ${errorsPath(output)}`}`)
  return batch.status === 'completed' && counts.succeeded === counts.total ? ALL_SUCCEEDED : SOME_FAILED
}
