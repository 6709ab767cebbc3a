import { type DestinationStream, pino } from 'pino'

/** Of an error only this much: Postgres puts whole rows into its details, and what people wrote does not belong in a log. */
const err = ({ name, code, message, stack }: Error & { code?: unknown }) => ({ type: name, code, message, stack })

export const createLog = (name: string, level: string, to: DestinationStream = pino.destination(1)) =>
  pino({ name, level, serializers: { err } }, to)
