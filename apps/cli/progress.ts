import { SingleBar } from 'cli-progress'
import type { Batch } from '../client/index.ts'
import { details, done, number, standing } from './format.ts'

export type Progress = {
  /** Prints a line. */
  say(line: string): void
  update(batch: Batch): void
  /** Removes the bar. */
  end(): void
}

/** Interval of lines without a terminal. */
const LINE_EVERY_MS = 5_000

/** A bar on a terminal; otherwise a line every few seconds, and at every change of the status. */
export function createProgress(stream: NodeJS.WriteStream, how: { shown: boolean; now?: () => number }): Progress {
  const write = (line: string) => void stream.write(`${line}\n`)
  if (!how.shown) return { say: write, update() {}, end() {} }
  return stream.isTTY ? createBar(stream, write) : createLines(write, how.now ?? Date.now)
}

function createLines(write: (line: string) => void, now: () => number): Progress {
  let status = ''
  let at = Number.NEGATIVE_INFINITY
  return {
    say: write,
    update(batch) {
      if (batch.status === status && now() - at < LINE_EVERY_MS) return
      status = batch.status
      at = now()
      write(standing(batch))
    },
    end() {},
  }
}

function createBar(stream: NodeJS.WriteStream, write: (line: string) => void): Progress {
  let bar: SingleBar | null = null
  const end = () => {
    bar?.stop()
    bar = null
  }
  return {
    say(line) {
      end()
      write(line)
    },
    update(batch) {
      // The total is 0 until the lines have been counted.
      const total = Math.max(1, batch.counts.total)
      const share = Math.floor((100 * done(batch)) / total)
      const payload = {
        count: batch.counts.total > 0 ? `${share}%  ${number(done(batch))}/${number(total)}  ` : '',
        what: batch.status === 'in_progress' ? '' : `${batch.status}  `,
        more: details(batch).join('  '),
      }
      if (!bar) {
        bar = new SingleBar({
          format: '{bar} {count}{what}{more}',
          barsize: 30,
          barCompleteChar: '█',
          barIncompleteChar: '░',
          stream,
          clearOnComplete: true,
          hideCursor: true,
          // This program handles Ctrl-C.
          gracefulExit: false,
        })
        bar.start(total, done(batch), payload)
      }
      bar.setTotal(total)
      bar.update(done(batch), payload)
    },
    end,
  }
}
