import { Type } from 'typebox'
import { expect, it } from 'vitest'
import { parseSettings, settingsAt } from './settings.ts'

const schema = Type.Object({ ...settingsAt(8090), POLICY: Type.Optional(Type.String()) })
const needed = { DATABASE_URL: 'postgres://db/app', SLUICE_API_KEY: 'key' }

it('what is not set, or empty, has its default', () => {
  expect(parseSettings(schema, { ...needed, PORT: '', POLICY: '', HOME: '/root' })).toEqual({
    ...needed,
    SLUICE_URL: 'http://127.0.0.1:8080',
    HOST: '127.0.0.1',
    PORT: 8090,
    LOG_LEVEL: 'info',
  })
})

it.each([
  [{ SLUICE_API_KEY: 'key' }, 'DATABASE_URL: is needed'],
  [{ ...needed, SLUICE_API_KEY: '' }, 'SLUICE_API_KEY: is needed'],
  [{ ...needed, PORT: 'eighty' }, 'PORT: must be integer'],
  [{ ...needed, PORT: '70000' }, 'PORT: must be <= 65535'],
  [{ ...needed, SLUICE_URL: 'sluice:8080' }, 'SLUICE_URL: must match pattern'],
])('what cannot be used is named: %j', (env, message) => expect(() => parseSettings(schema, env)).toThrow(message))
