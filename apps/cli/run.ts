import { type Batch, batchHasEnded } from '../client/index.ts'
import { checkOutput, download, errorsPath } from './download.ts'
import { ALL_SUCCEEDED, CANNOT, explain, Failure, Interrupted, SOME_FAILED } from './failure.ts'
import { persistently, type Session } from './session.ts'
import { type StartOptions, start } from './start.ts'
import { number, outcome, quoted } from './words.ts'

const FIRST_POLL_MS = 100
const MOST_POLL_MS = 2_000
/** Of the errors of a batch that failed. */
const MOST_PROBLEMS = 20

/** `sluice batch run`: resolves to the exit code. */
export async function run(session: Session, options: StartOptions): Promise<number> {
  const { progress } = session
  await checkOutput(options.output, options.input)
  const { id, how } = await start(session, options).catch((error: unknown) => {
    if (error instanceof Interrupted) {
      progress.say('interrupted. Should it have been started already, the same command comes back to it.')
    }
    throw error
  })
  const said = {
    started: `started ${id}; Ctrl-C leaves it running`,
    running: `${id} is under way with this file already: coming back to it (--anew starts another)`,
    ended: `${id} has ended with this file already: fetching its answers (--anew starts another)`,
  }
  progress.say(said[how])
  return finish(session, id, options.output)
}

/** `sluice batch resume`: resolves to the exit code. */
export async function resume(session: Session, { id, output }: { id: string; output: string }): Promise<number> {
  await checkOutput(output)
  // Fails at once for what is not there.
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
      progress.say(`${id} goes on without us. To come back:\n  ${back}\nTo stop it:\n  ${cancel}`)
    } else if (error instanceof Interrupted || explain(error) !== null) {
      progress.say(`To ${over ? 'fetch the answers of' : 'come back to'} ${id}:\n  ${back}`)
    }
    throw error
  }
}

async function follow(session: Session, id: string): Promise<Batch> {
  for (let wait = FIRST_POLL_MS; ; wait = Math.min(wait * 1.5, MOST_POLL_MS)) {
    const batch = await persistently(session, () => session.client.batches.get(id, { signal: session.signal }))
    session.progress.update(batch)
    if (batchHasEnded(batch.status)) return batch
    await session.pause(wait)
  }
}

function reportFailed({ progress }: Session, { id, errors }: Batch): number {
  progress.say(`sluice: ${id} failed`)
  for (const { line, code, message } of (errors ?? []).slice(0, MOST_PROBLEMS)) {
    progress.say(`  ${line == null ? '' : `line ${number(line)}: `}${code}: ${message}`)
  }
  const more = (errors?.length ?? 0) - MOST_PROBLEMS
  if (more > 0) progress.say(`  and ${number(more)} more`)
  return CANNOT
}

async function fetchResults(session: Session, batch: Batch, output: string): Promise<number> {
  const { counts } = batch
  const outputFile = batch.output_file_id ?? null
  const errorFile = batch.error_file_id ?? null
  if (outputFile === null && errorFile === null && counts.succeeded > 0) {
    throw new Failure(`${batch.id} has no output file: its answers are at /api/v1/batches/${batch.id}/results`)
  }
  await download(session, { answers: outputFile, errors: errorFile }, output)
  session.progress.say(outcome(batch))
  session.progress.say(`answers in ${output}${errorFile === null ? '' : `, errors in ${errorsPath(output)}`}`)
  return batch.status === 'completed' && counts.succeeded === counts.total ? ALL_SUCCEEDED : SOME_FAILED
}
