import { v7 } from 'uuid'

/** A new UUIDv7: time-ordered, so that indexes stay local and lists are in time order. */
export const newId = (): string => v7()

/** `0190…-…` -> `task_0190…` (32 hex digits). */
export const toWire = (prefix: string, id: string): string => `${prefix}_${id.replaceAll('-', '')}`

/** The inverse of `toWire`; null if it is not such an id. */
export function fromWire(prefix: string, wire: string): string | null {
  const hex = wire.startsWith(`${prefix}_`) ? wire.slice(prefix.length + 1) : ''
  if (!/^[0-9a-f]{32}$/.test(hex)) return null
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
