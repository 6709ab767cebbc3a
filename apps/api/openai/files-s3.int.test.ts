import OpenAI, { toFile } from 'openai'
import { afterAll, expect, it } from 'vitest'
import { type S3, startS3 } from '#shared/testing/s3.ts'
import { ADMIN, startStack } from '#shared/testing/stack.ts'

let s3: S3
const stack = startStack(async () => {
  s3 = await startS3('files')
  return {
    FILES_URL: 's3://files',
    FILES_S3_ENDPOINT: s3.url,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'id',
    AWS_SECRET_ACCESS_KEY: 'secret',
    AWS_MAX_ATTEMPTS: '1',
  }
})
afterAll(() => s3?.close())

it('files are stored in S3 if FILES_URL names it; an unreachable S3 is 503', async () => {
  const client = new OpenAI({ apiKey: ADMIN, baseURL: `http://127.0.0.1:${stack.api.port}/v1`, maxRetries: 0 })
  const text = 'line\n'.repeat(3_000_000)
  const upload = async () =>
    client.files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' })
  const file = await upload()
  expect([...s3.objects.values()].map(String)).toEqual([text])
  expect(await stack.sql('SELECT storage FROM files')).toEqual([{ storage: 's3' }])
  expect(await stack.sql('SELECT * FROM file_chunks')).toEqual([])
  expect(await (await client.files.content(file.id)).text()).toBe(text)

  s3.fail(/./)
  for (const ask of [upload, () => client.files.content(file.id)]) {
    const error = await ask().catch((error: unknown) => error)
    expect(error).toBeInstanceOf(OpenAI.InternalServerError)
    expect(error).toMatchObject({ status: 503, code: 'files_unavailable' })
    expect((error as InstanceType<typeof OpenAI.APIError>).headers!.get('retry-after')).toBe('2')
  }
  // The metadata are in Postgres.
  expect((await client.files.list()).data).toEqual([file])
  expect((await client.files.delete(file.id)).deleted).toBe(true)
})
