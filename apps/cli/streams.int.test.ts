import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect } from 'vitest'
import { answered, it } from './testing/cli-test.ts'
import type { FakeSluice } from './testing/fake-sluice.ts'

/** Input and output that are not plain files. */

const TEXT = 'one\ntwo\nthree\n'
const uploaded = (fake: FakeSluice) => [...fake.files.values()].filter(one => one.purpose === 'batch')

describe.concurrent('the input', () => {
  it.for<[string, Buffer]>([
    ['standard input', Buffer.from(TEXT)],
    ['standard input, compressed', gzipSync(TEXT)],
    ['standard input, compressed in two members', Buffer.concat([gzipSync('one\n'), gzipSync('two\nthree\n')])],
  ])('may be %s', async ([, stdin], { fake, cli }) => {
    const { code, stderr } = await cli.pipe(stdin, 'run', '-', '-o', 'out.jsonl').ended
    expect({ code, out: cli.read('out.jsonl') }).toEqual({ code: 0, out: answered('one', 'two', 'three') })
    expect(uploaded(fake)).toMatchObject([{ bytes: Buffer.from(TEXT), filename: 'stdin.jsonl' }])
    expect(stderr).toContain('uploading standard input (14 bytes)\n')
    expect(cli.temporary()).toEqual([])
  })

  it.for<[string, string]>([
    ['in.jsonl.gz', 'in.jsonl'],
    ['IN.GZ', 'IN'],
    ['in.jsonl', 'in.jsonl'],
  ])('may be compressed, in a file named %s', async ([name, filename], { fake, cli }) => {
    cli.write(name, gzipSync(TEXT))
    expect((await cli.batch('run', name, '-o', 'out.jsonl')).code).toBe(0)
    expect(uploaded(fake)).toEqual([{ bytes: Buffer.from(TEXT), filename, purpose: 'batch' }])
  })

  it('may be a named pipe', async ({ fake, cli }) => {
    execFileSync('mkfifo', [join(cli.cwd, 'pipe')])
    const running = cli.begin('run', 'pipe', '-o', 'out.jsonl')
    cli.write('pipe', TEXT)
    expect((await running.ended).code).toBe(0)
    expect(uploaded(fake)).toMatchObject([{ bytes: Buffer.from(TEXT), filename: 'pipe' }])
  })

  it('is sent again from its beginning when the connection breaks', async ({ fake, cli }) => {
    fake.faultFor = ({ path, nth }) => (path === '/v1/files' && nth === 1 ? 'cut' : null)
    const { code } = await cli.pipe(gzipSync(TEXT), 'run', '-', '-o', 'out.jsonl').ended
    expect({ code, bytes: uploaded(fake).map(one => String(one.bytes)) }).toEqual({ code: 0, bytes: [TEXT] })
  })

  it('with the same lines resumes the running batch, compressed or not', async ({ fake, cli }) => {
    fake.stepping = false
    const first = cli.pipe(Buffer.from(TEXT), 'run', '-', '-o', 'out.jsonl')
    await fake.until(() => fake.calls.some(call => call.startsWith('GET /api/v1/batches/')))
    first.kill('SIGKILL')
    await first.ended
    expect(cli.temporary()).toEqual([])
    fake.stepping = true
    cli.write('in.jsonl.gz', gzipSync(TEXT))
    for (const again of [
      await cli.pipe(gzipSync(TEXT), 'run', '-', '-o', 'out.jsonl').ended,
      await cli.batch('run', 'in.jsonl.gz', '-o', 'other.jsonl'),
    ])
      expect(again.code).toBe(0)
    expect(cli.read('out.jsonl')).toBe(answered('one', 'two', 'three'))
    // The second one found the batch ended and fetched, which another output is free to ask for anew.
    expect(fake.batches.map(one => one.status)).toEqual(['completed', 'completed'])
  })

  it.for<[string, string, Buffer | null, string | RegExp]>([
    ['nothing', '-', Buffer.alloc(0), 'sluice: standard input: is empty\n'],
    ['nothing, compressed', '-', gzipSync(''), 'sluice: standard input: is empty\n'],
    [
      'a compressed file that is cut',
      'cut.gz',
      null,
      /^sluice: cut\.gz: the gzip data are damaged \(unexpected end of file\)\n$/,
    ],
    ['a compressed file that is damaged', 'bad.gz', null, /^sluice: bad\.gz: the gzip data are damaged/],
    [
      'a file that is not what its name says',
      'plain.gz',
      null,
      'sluice: plain.gz: is named .gz, but is not gzip-compressed\n',
    ],
    ['a directory', '.', null, 'sluice: .: is a directory\n'],
    ['more than a batch takes, in a small file', 'bomb.gz', null, /is larger than 200 MB/],
  ])('may not be %s', async ([, input, stdin, message], { fake, cli }) => {
    const packed = gzipSync(Buffer.from('x'.repeat(100_000)))
    cli.write('cut.gz', packed.subarray(0, packed.length - 20))
    cli.write('bad.gz', Buffer.concat([packed.subarray(0, 20), Buffer.alloc(60, 7)]))
    cli.write('plain.gz', TEXT)
    if (input === 'bomb.gz') cli.write('bomb.gz', gzipSync(Buffer.alloc(201 * 1_048_576)))
    const { code, stderr } = await (stdin
      ? cli.pipe(stdin, 'run', input, '-o', 'out.jsonl')
      : cli.begin('run', input, '-o', 'out.jsonl')
    ).ended
    expect(code).toBe(2)
    expect(stderr).toMatch(message)
    expect({ calls: fake.calls, left: cli.temporary() }).toEqual({ calls: [], left: [] })
  })

  it('without an end is abandoned at Ctrl-C', async ({ fake, cli }) => {
    const running = cli.pipe('open', 'run', '-', '-o', 'out.jsonl')
    await running.says(/^reading standard input$/m)
    running.kill('SIGINT')
    expect((await running.ended).code).toBe(130)
    expect({ calls: fake.calls, left: cli.temporary() }).toEqual({ calls: [], left: [] })
  })
})

describe.concurrent('the output', () => {
  it('may be standard output, with errors on standard error', async ({ cli }) => {
    const { code, stdout, stderr } = await cli.pipe(
      Buffer.from('one\nfail\ntwo\n'),
      ...['run', '-', '-o', '-', '--no-progress'],
    ).ended
    expect({ code, stdout }).toEqual({ code: 1, stdout: answered('one', 'two') })
    expect(stderr).toContain('{"failed":"fail"}\n')
    expect(cli.files()).toEqual(['in.jsonl'])
  })

  it('is written once when the connection breaks in the middle', async ({ fake, cli }) => {
    fake.faultFor = ({ path, nth }) => (/\/content$/.test(path) && nth === 1 ? 'half' : null)
    const { code, stdout } = await cli.pipe(Buffer.from(TEXT), 'run', '-', '-o', '-').ended
    expect({ code, stdout }).toEqual({ code: 0, stdout: answered('one', 'two', 'three') })
  })

  it('of a running batch can be fetched by id', async ({ fake, cli }) => {
    fake.stepping = false
    const first = cli.pipe(Buffer.from(TEXT), 'run', '-', '-o', '-')
    await fake.until(() => fake.calls.some(call => call.startsWith('GET /api/v1/batches/')))
    first.kill('SIGINT')
    const { code, stdout, stderr } = await first.ended
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' })
    const id = fake.batches[0]!.id
    expect(stderr).toContain(`sluice batch resume ${id} -o -\n`)
    fake.stepping = true
    expect((await cli.batch('resume', id, '-o', '-')).stdout).toBe(answered('one', 'two', 'three'))
  })

  it('of an ended batch is not repeated: the same command starts a new batch', async ({ fake, cli }) => {
    for (let n = 1; n <= 2; n++) {
      expect((await cli.pipe(Buffer.from(TEXT), 'run', '-', '-o', '-').ended).stdout).toBe(
        answered('one', 'two', 'three'),
      )
      expect(fake.batches).toHaveLength(n)
    }
  })

  it('may be closed early without a failure', async ({ cli }) => {
    const running = cli.pipe(Buffer.from(TEXT), 'run', '-', '-o', '-')
    running.readNoMore()
    expect((await running.ended).code).toBe(0)
  })
})
