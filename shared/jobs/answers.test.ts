import { Type } from 'typebox'
import { describe, expect, it } from 'vitest'
import { readJson } from './answers.ts'

const SCHEMA = Type.Object({ n: Type.Integer() }, { additionalProperties: false })
const NOT_JSON = { ok: false, reason: 'the answer is not JSON' }

describe('an answer in JSON', () => {
  it.each([
    ['bare', '{"n":1}'],
    ['with white space around it', '\n {"n":1}\n\n'],
    ['in a fence', '```json\n{"n":1}\n```'],
    ['in a fence without a language', '```\n{"n":1}\n```'],
    ['in a fence with white space in all places', ' \n```json \r\n\n {"n":\n1}\r\n\n  ```\n '],
  ])('is read %s', (_, text) => expect(readJson(text, SCHEMA)).toEqual({ ok: true, value: { n: 1 } }))

  it.each([
    ['in prose', 'Here: {"n":1}'],
    ['in a fence in prose', 'Here:\n```json\n{"n":1}\n```'],
    ['in a fence of another language', '```python\n{"n":1}\n```'],
    ['in a fence of one line', '```json {"n":1} ```'],
    ['in a fence that does not close', '```json\n{"n":1}\n'],
    ['in a fence that closes behind it', '```json\n{"n":1}```'],
    ['in two fences', '```json\n{"n":1}\n```\n```json\n{"n":1}\n```'],
    ['that is a fence and nothing else', '```json\n```'],
    ['that is three marks', '```'],
    ['that is nothing', ''],
  ])('is not read %s', (_, text) => expect(readJson(text, SCHEMA)).toEqual(NOT_JSON))

  it('does not keep a worker busy that is white space without an end', () => {
    // A regular expression that goes back over them takes cubic time: hours.
    for (const space of ['\n', ' \n', '\n ', '\t']) {
      const much = space.repeat(100_000)
      for (const text of [
        `\`\`\`json${much}`,
        `${much}\`\`\`${much}x`,
        `\`\`\`${much}x\`\`\``,
        `${much}\`\`\`json${much}{${much}`,
      ]) {
        expect(readJson(text, SCHEMA)).toEqual(NOT_JSON)
      }
      expect(readJson(`\`\`\`json${much}\n{"n":1}${much}\n\`\`\`${much}`, SCHEMA)).toMatchObject({ ok: true })
    }
  })
})
