import fc from 'fast-check'
import { expect, test } from 'vitest'
import { multipart } from './multipart.ts'

test('a form parser returns the fields and the file of a form', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.dictionary(
        fc.stringMatching(/^[a-z[\]_]{1,10}$/),
        fc.string({ maxLength: 20 }).filter(text => !/[\r\n]/.test(text)),
      ),
      // The format does not escape `%`: a name that contains an escape cannot be told from an escaped one.
      fc.stringMatching(/^[^\0\r\n"\\/]{1,20}$/).filter(name => !/%(0a|0d|22)/i.test(name)),
      fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 5 }),
      async ({ file: _, ...fields }, filename, pieces) => {
        const bytes = (async function* () {
          yield* pieces
        })()
        const { body, type } = multipart(fields, { filename, bytes })
        const form = await new Response(body, { headers: { 'content-type': type } }).formData()
        const file = form.get('file') as unknown as { name: string; arrayBuffer(): Promise<ArrayBuffer> }
        form.delete('file')
        expect(Object.fromEntries(form)).toEqual(fields)
        expect(file.name).toBe(filename)
        expect(Buffer.from(await file.arrayBuffer())).toEqual(Buffer.concat(pieces))
      },
    ),
  )
})

test('a file name cannot end its header', async () => {
  const { body } = multipart({}, { filename: 'a"\r\nx: y', bytes: (async function* () {})() })
  expect(await new Response(body).text()).toContain('filename="a%22%0D%0Ax: y"')
})

test('the file is read only as fast as it is sent', async () => {
  let read = 0
  const bytes = (async function* () {
    for (;;) {
      read++
      yield new Uint8Array(1000)
    }
  })()
  const reader = multipart({}, { filename: 'a', bytes }).body.getReader()
  for (let n = 0; n < 5; n++) await reader.read()
  expect(read).toBeLessThanOrEqual(5)
  await reader.cancel()
})
