import { chmodSync, closeSync, existsSync, mkdirSync, openSync, symlinkSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { answered, type Cli, isPoll, it, RUN } from './testing/cli-test.ts'
import { KEY } from './testing/fake-sluice.ts'

describe.concurrent('sluice batch run', () => {
  it('uploads, starts, waits, fetches and reports each step', async ({ fake, cli }) => {
    const { code, stderr, stdout } = await cli.batch(...RUN, '--max-cost-usd', '1.5')
    expect(code).toBe(0)
    expect(stdout).toBe('')
    expect(cli.read('out.jsonl')).toBe(answered('one', 'two', 'three'))
    expect(existsSync(join(cli.cwd, 'out.errors.jsonl'))).toBe(false)
    expect(fake.batches).toMatchObject([{ endpoint: '/v1/chat/completions', max_cost_usd: 1.5 }])
    expect([...fake.files.values()][0]).toEqual({
      bytes: Buffer.from('one\ntwo\nthree\n'),
      filename: 'in.jsonl',
      purpose: 'batch',
    })
    const id = fake.batches[0]!.id
    expect(stderr.split('\n')).toEqual([
      'uploading in.jsonl (14 bytes)',
      `started ${id}; Ctrl-C leaves it running`,
      'validating, $0.0000',
      'in progress, 0 of 3 (0%), 1 min 30 s left, $0.0000',
      'finalizing, 3 of 3 (100%), 12.5/s, $0.0030',
      'completed, 3 of 3 (100%), 12.5/s, $0.0030',
      'completed: 3 lines, 3 succeeded, $0.0030',
      'answers in out.jsonl',
      '',
    ])
    expect(cli.files()).toEqual(['in.jsonl', 'out.jsonl'])
  })

  it('prints no progress with --no-progress', async ({ cli }) => {
    const { stderr } = await cli.batch(...RUN, '--no-progress')
    expect(stderr.split('\n')).toHaveLength(5)
  })

  it('ends with 1 if a line failed, and fetches its error', async ({ cli }) => {
    cli.write('in.jsonl', 'one\nfail\n')
    const { code, stderr } = await cli.batch(...RUN)
    expect(code).toBe(1)
    expect(cli.read('out.jsonl')).toBe(answered('one'))
    expect(cli.read('out.errors.jsonl')).toBe('{"failed":"fail"}\n')
    expect(stderr).toContain(
      'completed: 2 lines, 1 succeeded, 1 failed, $0.0010\nanswers in out.jsonl, errors in out.errors.jsonl\n',
    )
  })

  it('removes the errors of an earlier run', async ({ cli }) => {
    cli.write('in.jsonl', 'fail\n')
    cli.write('out.jsonl', 'of an earlier run')
    expect((await cli.batch(...RUN)).code).toBe(1)
    expect(cli.read('out.jsonl')).toBe('')
    cli.write('in.jsonl', 'one\n')
    expect((await cli.batch(...RUN)).code).toBe(0)
    expect(existsSync(join(cli.cwd, 'out.errors.jsonl'))).toBe(false)
  })

  it('replaces answers and errors together', async ({ fake, cli }) => {
    cli.write('in.jsonl', 'one\nfail\n')
    cli.write('out.jsonl', 'of an earlier run')
    cli.write('out.errors.jsonl', 'of an earlier run')
    const errors = () => fake.batches[0]?.error
    fake.faultFor = ({ path }) => (path === `/v1/files/${errors()}/content` ? 'half' : null)
    const running = cli.begin(...RUN)
    await running.says(/trying again/)
    running.kill('SIGINT')
    expect((await running.ended).code).toBe(130)
    expect([cli.read('out.jsonl'), cli.read('out.errors.jsonl')]).toEqual(['of an earlier run', 'of an earlier run'])
    expect(cli.files()).toEqual(['in.jsonl', 'out.errors.jsonl', 'out.jsonl'])
  })

  it('ends with 2 and the reason if the batch failed, and keeps the old output', async ({ cli }) => {
    cli.write('in.jsonl', 'invalid\n')
    cli.write('out.jsonl', 'of an earlier run')
    const { code, stderr } = await cli.batch(...RUN)
    expect(code).toBe(2)
    expect(stderr).toMatch(/sluice: batch_\d+ failed\n {2}line 1: invalid_json_line: Not JSON\.\n$/)
    expect(cli.read('out.jsonl')).toBe('of an earlier run')
  })

  it('resumes a running batch of the same file and starts no second', async ({ fake, cli }) => {
    await cli.abandoned()
    const { code, stderr } = await cli.batch(...RUN)
    expect(code).toBe(0)
    expect(stderr).toContain(`${fake.batches[0]!.id} with this input is running already`)
    expect(fake.batches).toHaveLength(1)
    expect(cli.read('out.jsonl')).toBe(answered('one', 'two', 'three'))
  })

  it('fetches the answers of a batch that ended meanwhile and starts no second', async ({ fake, cli }) => {
    cli.write('out.jsonl', 'of an earlier run')
    utimesSync(join(cli.cwd, 'out.jsonl'), 1, 1)
    const one = await cli.abandoned()
    while (one.status !== 'completed') fake.step(one)
    const { code, stderr } = await cli.batch(...RUN)
    expect(code).toBe(0)
    expect(stderr).toContain(`${one.id} with this input has ended already: downloading its answers`)
    expect(cli.read('out.jsonl')).toBe(answered('one', 'two', 'three'))
    expect(fake.batches).toHaveLength(1)
  })

  it('starts a new batch for another output file', async ({ fake, cli }) => {
    const one = await cli.abandoned()
    while (one.status !== 'completed') fake.step(one)
    expect((await cli.batch('run', 'in.jsonl', '-o', 'other.jsonl')).code).toBe(0)
    expect(fake.batches).toHaveLength(2)
    expect((await cli.batch(...RUN)).stderr).toContain(`${one.id} with this input has ended already`)
    expect(fake.batches).toHaveLength(2)
  })

  it('fetches the answers after it was killed during the download, and leaves nothing behind', async ({
    fake,
    cli,
  }) => {
    cli.write('in.jsonl', 'one\nfail\n')
    const hold = Promise.withResolvers<null>()
    const fetched = () => fake.calls.filter(call => call.endsWith('/content')).length
    fake.faultFor = ({ path }) => (path.endsWith('/content') && fetched() === 2 ? hold.promise : null)
    const first = cli.begin(...RUN)
    await fake.until(() => fetched() === 2)
    first.kill('SIGKILL')
    await first.ended
    hold.resolve(null)
    expect(cli.files()).toHaveLength(3)
    cli.write(`.out.jsonl.${process.pid}.part`, 'of a running command')
    expect((await cli.batch(...RUN)).code).toBe(1)
    expect(fake.batches).toHaveLength(1)
    expect([cli.read('out.jsonl'), cli.read('out.errors.jsonl')]).toEqual([answered('one'), '{"failed":"fail"}\n'])
    expect(cli.files()).toEqual([`.out.jsonl.${process.pid}.part`, 'in.jsonl', 'out.errors.jsonl', 'out.jsonl'])
  })

  it('starts a new batch after a cancelled one', async ({ fake, cli }) => {
    const one = await cli.abandoned()
    fake.move(one, 'cancelling')
    fake.move(one, 'cancelled', { output: [...fake.files.keys()][0]! })
    expect((await cli.batch(...RUN)).code).toBe(0)
    expect(fake.batches).toHaveLength(2)
  })

  it('does not resume a batch with another --max-cost-usd', async ({ fake, cli }) => {
    const { id } = await cli.abandoned('--max-cost-usd', '1.5')
    const { code, stderr } = await cli.batch(...RUN, '--max-cost-usd', '2')
    expect(code).toBe(2)
    expect(stderr).toBe(
      `sluice: ${id} with this input is running already, with --max-cost-usd 1.5. Resume it without --max-cost-usd, ` +
        `cancel it with \`sluice batch cancel ${id}\`, or start a new batch with --anew\n`,
    )
    expect((await cli.batch(...RUN, '--max-cost-usd', '1.50')).code).toBe(0)
    expect(fake.batches).toHaveLength(1)
  })

  it('starts another batch with --anew, for other content, and after the first was fetched', async ({ fake, cli }) => {
    fake.stepping = false
    const first = cli.begin(...RUN)
    await fake.until(() => cli.polls() > 0)
    fake.stepping = true
    expect((await cli.batch(...RUN, '--anew')).code).toBe(0)
    cli.write('in.jsonl', 'four\n')
    expect((await cli.batch('run', 'in.jsonl', '-o', 'four.jsonl')).code).toBe(0)
    await first.ended
    cli.write('in.jsonl', 'one\ntwo\nthree\n')
    expect((await cli.batch(...RUN)).code).toBe(0)
    expect(fake.batches).toHaveLength(4)
  })

  it('finds its batch behind a hundred others', async ({ fake, cli }) => {
    const one = await cli.abandoned()
    for (let n = 0; n < 150; n++) fake.batches.push({ ...structuredClone(one), id: `batch_9${n}`, metadata: {} })
    expect((await cli.batch(...RUN)).code).toBe(0)
    expect(fake.batches).toHaveLength(151)
  })

  it('starts one batch, not two, when the answer to the start is lost', async ({ fake, cli }) => {
    fake.faultFor = ({ method, path, nth }) =>
      method === 'POST' && path === '/v1/batches' && nth === 1 ? 'lost' : null
    const { code, stderr } = await cli.batch(...RUN)
    expect(code).toBe(0)
    expect(stderr).toMatch(/^no answer from .*; trying again$/m)
    expect(cli.count('POST /v1/batches')).toBe(1)
    expect(fake.batches).toHaveLength(1)
  })

  it('retries the upload when the connection breaks, at most three times', async ({ fake, cli }) => {
    fake.faultFor = ({ path, nth }) => (path === '/v1/files' && nth < 3 ? 'cut' : null)
    expect((await cli.batch(...RUN)).code).toBe(0)
    fake.faultFor = ({ path }) => (path === '/v1/files' ? 'cut' : null)
    const { code, stderr } = await cli.batch(...RUN)
    expect(code).toBe(2)
    expect(stderr).toMatch(/\nsluice: no answer from .+\n$/)
    expect(cli.count('POST /v1/files')).toBe(6)
  })

  it('waits while the server restarts, is overloaded or is not ready', async ({ fake, cli }) => {
    fake.stepping = false
    const running = cli.begin(...RUN)
    await fake.until(() => cli.polls() > 0)
    await fake.stop()
    await running.says(/no answer from .*; trying again\n/)
    await fake.start()
    await running.says(/the server answers again\n/)
    const before = cli.polls()
    fake.faultFor = ({ path }) => {
      const more = cli.polls() - before
      if (!path.startsWith('/api/v1/batches')) return null
      return (
        [{ status: 503, headers: { 'retry-after': '0' } }, { status: 429 }, { status: 502 }, 'cut' as const][more] ??
        null
      )
    }
    await fake.until(() => cli.polls() > before + 4)
    fake.stepping = true
    expect((await running.ended).code).toBe(0)
    expect(cli.read('out.jsonl')).toBe(answered('one', 'two', 'three'))
  })

  it('retries a download that breaks off, and writes no partial file', async ({ fake, cli }) => {
    fake.faultFor = ({ path, nth }) =>
      path.endsWith('/content') && nth < 3 ? (nth === 1 ? 'half' : { status: 503 }) : null
    const { code } = await cli.batch(...RUN)
    expect(code).toBe(0)
    expect(cli.read('out.jsonl')).toBe(answered('one', 'two', 'three'))
    expect(cli.files()).toEqual(['in.jsonl', 'out.jsonl'])
  })

  it('fetches the answers with stdout and stderr closed', async ({ fake, cli }) => {
    fake.stepping = false
    const running = cli.begin(...RUN)
    await fake.until(() => cli.polls() > 0)
    running.readNoMore()
    fake.stepping = true
    expect((await running.ended).code).toBe(0)
    expect(cli.read('out.jsonl')).toBe(answered('one', 'two', 'three'))
  })

  it('ends with 2 on an internal error', async ({ fake, cli }) => {
    fake.stepping = false
    const bug = "process.on('SIGUSR2', () => { throw new Error('a bug') })"
    const bugged = { ...cli.env(), NODE_OPTIONS: `--import "data:text/javascript,${encodeURIComponent(bug)}"` }
    const running = cli.run(['batch', ...RUN], { env: bugged })
    await fake.until(() => cli.polls() > 0)
    running.kill('SIGUSR2')
    const { code, stderr } = await running.ended
    expect(code).toBe(2)
    expect(stderr).toContain('sluice: Error: a bug\n')
  })

  it('writes through a symbolic link', async ({ cli }) => {
    mkdirSync(join(cli.cwd, 'elsewhere'))
    cli.write('elsewhere/real.jsonl', 'of an earlier run')
    symlinkSync('elsewhere/real.jsonl', join(cli.cwd, 'out.jsonl'))
    expect((await cli.batch(...RUN)).code).toBe(0)
    expect(cli.read('elsewhere/real.jsonl')).toBe(answered('one', 'two', 'three'))
  })
})

describe.concurrent('Ctrl-C', () => {
  it('leaves the batch running and prints the command that resumes it', async ({ fake, cli }) => {
    fake.stepping = false
    const running = cli.begin(...RUN)
    await fake.until(() => cli.polls() > 0)
    running.kill('SIGINT')
    const { code, stderr } = await running.ended
    expect(code).toBe(130)
    const { id } = fake.batches[0]!
    expect(stderr).toContain(
      `${id} continues. To resume:\n  sluice batch resume ${id} -o out.jsonl\nTo cancel it:\n  sluice batch cancel ${id}\n`,
    )
    expect(fake.batches[0]!.status).toBe('validating')
    expect(cli.files()).toEqual(['in.jsonl'])
    fake.stepping = true
    expect((await cli.batch('resume', id, '-o', 'out.jsonl')).code).toBe(0)
    expect(cli.read('out.jsonl')).toBe(answered('one', 'two', 'three'))
  })

  it('and SIGHUP have the same effect', async ({ fake, cli }) => {
    fake.stepping = false
    const running = cli.begin(...RUN)
    await fake.until(() => cli.polls() > 0)
    running.kill('SIGHUP')
    const { code, stderr } = await running.ended
    expect(code).toBe(129)
    expect(stderr).toContain(`sluice batch resume ${fake.batches[0]!.id} -o out.jsonl\n`)
  })

  it('works while the server does not answer or is unreachable', async ({ fake, cli, onTestFinished }) => {
    const hold = Promise.withResolvers<null>()
    onTestFinished(() => hold.resolve(null))
    fake.faultFor = ({ path }) => (isPoll(`GET ${path}`) ? hold.promise : null)
    const waiting = cli.begin(...RUN)
    await fake.until(() => cli.polls() > 0)
    waiting.kill('SIGINT')
    expect((await waiting.ended).code).toBe(130)
    const away = cli.begin(...RUN)
    await fake.until(() => cli.polls() > 1)
    await fake.stop()
    await away.says(/trying again/)
    away.kill('SIGINT')
    expect((await away.ended).code).toBe(130)
  })

  it('leaves no partial output and prints how to fetch it', async ({ fake, cli }) => {
    fake.faultFor = ({ path }) => (path.endsWith('/content') ? 'half' : null)
    const running = cli.begin(...RUN)
    await running.says(/trying again/)
    running.kill('SIGINT')
    const { code, stderr } = await running.ended
    expect(code).toBe(130)
    const { id } = fake.batches[0]!
    expect(stderr).toContain(`To download the answers of ${id}:\n  sluice batch resume ${id} -o out.jsonl\n`)
    expect(cli.files()).toEqual(['in.jsonl'])
  })

  it('during the upload starts nothing', async ({ fake, cli, onTestFinished }) => {
    const hold = Promise.withResolvers<null>()
    onTestFinished(() => hold.resolve(null))
    fake.faultFor = ({ path }) => (path === '/v1/files' ? hold.promise : null)
    const running = cli.begin(...RUN)
    await fake.until(() => cli.count('POST /v1/files') > 0)
    running.kill('SIGINT')
    const { code, stderr } = await running.ended
    expect(code).toBe(130)
    expect(stderr).toContain('interrupted;')
    expect(fake.batches).toEqual([])
  })
})

describe.concurrent('the other commands', () => {
  it('status, cancel and list show the state of a batch', async ({ fake, cli }) => {
    fake.stepping = false
    const running = cli.begin(...RUN)
    await fake.until(() => cli.polls() > 0)
    const one = fake.batches[0]!
    fake.step(one)
    const { id } = one
    expect((await cli.batch('status', id)).stdout).toMatch(
      new RegExp(`^${id} {2}in progress, 0 of 3 \\(0%\\), 1 min 30 s left, \\$0\\.0000\\ncreated .+Z\\n$`),
    )
    expect(JSON.parse((await cli.batch('status', id, '--json')).stdout)).toMatchObject({ id, counts: { total: 3 } })
    expect(await cli.batch('cancel', id)).toEqual({ code: 0, stdout: `${id} is cancelling\n`, stderr: '' })
    fake.stepping = true
    const ran = await running.ended
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('cancelled: 3 lines, 0 succeeded, 3 cancelled, $0.0000\n')
    expect((await cli.batch('list')).stdout).toMatch(
      new RegExp(`^${id}  cancelled    .+Z  /v1/chat/completions  0/3\\n$`),
    )
  })

  it('a batch that ended cannot be cancelled', async ({ fake, cli }) => {
    await cli.batch(...RUN)
    expect(await cli.batch('cancel', fake.batches[0]!.id)).toEqual({
      code: 2,
      stdout: '',
      stderr: 'sluice: The batch is completed. (409 refused)\n',
    })
  })

  it('an unknown id is an error of one line', async ({ cli }) => {
    for (const command of [
      ['status', 'batch_7'],
      ['cancel', 'batch_7'],
      ['resume', 'batch_7', '-o', 'out.jsonl'],
    ]) {
      expect(await cli.batch(...command)).toMatchObject({
        code: 2,
        stderr: 'sluice: No such batch: batch_7 (404 refused)\n',
      })
    }
  })
})

describe.concurrent('an error is one line, and exit code 2:', () => {
  const cases: [string, string[], RegExp][] = [
    [
      'a missing input file',
      ['run', 'none.jsonl', '-o', 'out.jsonl'],
      /^sluice: none\.jsonl: no such file or directory\n$/,
    ],
    ['a directory as input', ['run', '.', '-o', 'out.jsonl'], /^sluice: \.: is a directory\n$/],
    ['an empty input', ['run', 'empty', '-o', 'out.jsonl'], /^sluice: empty: is empty\n$/],
    ['a directory as output', ['run', 'in.jsonl', '-o', '.'], /^sluice: \.: not a regular file\n$/],
    ['a device as output', ['run', 'in.jsonl', '-o', '/dev/null'], /^sluice: \/dev\/null: not a regular file\n$/],
    [
      'output in a missing directory',
      ['run', 'in.jsonl', '-o', 'no/out'],
      /^sluice: no\/out: no such file or directory\n$/,
    ],
    ['the input as output', ['run', 'in.jsonl', '-o', './in.jsonl'], /would overwrite the input\n$/],
    ['no output', ['run', 'in.jsonl'], /^error: required option '-o, --output <file>' not specified\n$/],
    ['an invalid amount', [...RUN, '--max-cost-usd', '-1'], /^error: .*Not an amount above 0\.\n$/],
    ['an unknown option', [...RUN, '--nope'], /^error: unknown option '--nope'\n$/],
    ['an invalid URL', [...RUN, '--url', 'localhost:8080'], /^error: .*Not an http\(s\) URL\.\n$/],
    ['a wrong key', [...RUN, '--key', 'wrong'], /^sluice: the server does not accept the API key \(401\): /],
    [
      'a key with an invalid character',
      [...RUN, '--key', 'k\ney'],
      /^sluice: the API key contains an invalid character\n$/,
    ],
    [
      'an unknown endpoint',
      [...RUN, '--endpoint', '/v1/nope'],
      /\nsluice: No such endpoint: \/v1\/nope \(400 refused\)\n$/,
    ],
  ]
  it.for(cases)('%s', async ([, args, line], { fake, cli }) => {
    cli.write('empty', '')
    const { code, stdout, stderr } = await cli.batch(...args)
    expect(stderr).toMatch(line)
    expect(stderr).not.toMatch(/^\s+at /m)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(fake.batches).toEqual([])
  })

  it('a server that is not running', async ({ fake, cli }) => {
    const { url } = fake
    await fake.stop()
    const { code, stderr } = await cli.run(['batch', ...RUN, '--url', url], { env: { SLUICE_API_KEY: KEY } }).ended
    expect(code).toBe(2)
    expect(stderr).toMatch(/^sluice: no answer from http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED.*\n$/)
  })

  it('a server other than Sluice', async ({ fake, cli }) => {
    fake.faultFor = () => ({ status: 404 })
    expect(await cli.batch(...RUN)).toMatchObject({
      code: 2,
      stderr: 'sluice: this is not a Sluice server: it answered 404 (see --url)\n',
    })
  })

  it('a full disk for stdout', async ({ cli, onTestFinished }) => {
    const full = openSync('/dev/full', 'w')
    onTestFinished(() => closeSync(full))
    const { code, stderr } = await cli.run(['batch', 'list', '--json'], { env: cli.env(), stdout: full }).ended
    expect(code).toBe(2)
    expect(stderr).toBe('sluice: the output cannot be written: no space left on the device\n')
  })

  it('a read-only directory', async ({ cli }) => {
    if (process.getuid?.() === 0) return
    chmodSync(cli.cwd, 0o555)
    expect(await cli.batch(...RUN)).toMatchObject({ code: 2, stderr: 'sluice: out.jsonl: permission denied\n' })
  })
})

describe.concurrent('the key of `npm start`', () => {
  const writeKey = (cli: Cli) => {
    mkdirSync(join(cli.cwd, '.data'))
    cli.write('.data/admin.key', `${KEY}\n`)
  }

  it('is used by default in the same directory', async ({ fake, cli }) => {
    writeKey(cli)
    expect((await cli.run(['batch', 'list', '--url', fake.url]).ended).code).toBe(0)
  })

  it('is not sent to another machine', async ({ cli }) => {
    writeKey(cli)
    const { code, stderr } = await cli.run(['batch', 'list', '--url', 'http://sluice.example']).ended
    expect({ code, stderr }).toEqual({ code: 2, stderr: 'sluice: no API key: set --key or SLUICE_API_KEY\n' })
  })
})
