import { type Static, Type } from 'typebox'
import { settingsAt } from '../client-app/settings.ts'

export const settings = Type.Object(settingsAt(8091))

export type Settings = Static<typeof settings>
