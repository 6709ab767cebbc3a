import { type Static, Type } from 'typebox'
import { settingsAt } from '../client-app/settings.ts'

export const settings = Type.Object({
  ...settingsAt(8090),
  /** Name of the policy to judge by; none: Sluice's default. */
  SLUICE_POLICY: Type.Optional(Type.String({ pattern: '^[a-z0-9][a-z0-9_-]{0,63}$' })),
})

export type Settings = Static<typeof settings>
