import { type DestinationStream, pino } from 'pino'

/** Of an error only this much: Postgres puts whole rows into its details, and nobody's comment belongs in a log. */
const err = ({ name, code, message, stack }: Error & { code?: unknown }) => ({ type: name, code, message, stack })

export const createLog = (level: string, to: DestinationStream = pino.destination(1)) =>
  pino({ name: 'comments', level, serializers: { err } }, to)
