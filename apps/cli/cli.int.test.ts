import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { type FakeSluice, KEY, startFakeSluice } from './testing/fake-sluice.ts'
import { sluice } from './testing/sluice.ts'

let fake: FakeSluice
let cwd: string

beforeEach(async () => {
  fake = await startFakeSluice()
  cwd = mkdtempSync(join(tmpdir(), 'sluice-cli-'))
  write('in.jsonl', 'one\ntwo\nthree\n')
})
afterEach(async () => {
  await fake.stop()
  rmSync(cwd, { recursive: true, force: true })
})

const write = (name: string, text: string) => writeFileSync(join(cwd, name), text)
const read = (name: string) => readFileSync(join(cwd, name), 'utf8')
const env = () => ({ SLUICE_API_KEY: KEY, SLUICE_URL: fake.url })
const begin = (...args: string[]) => sluice(['batch', ...args], { cwd, env: env() })
const batch = (...args: string[]) => begin(...args).ended
const RUN = ['run', 'in.jsonl', '-o', 'out.jsonl']
/** The batch of a run that was killed while it was under way. */
async function abandoned(...more: string[]) {
  fake.stepping = false
  const first = begin(...RUN, ...more)
  await fake.until(() => polls() > 0)
  first.kill('SIGKILL')
  await first.ended
  fake.stepping = true
  return fake.batches[0]!
}
const answered = (...lines: string[]) => lines.map(line => `${JSON.stringify({ answered: line })}\n`).join('')
const count = (call: string) => fake.calls.filter(one => one === call).length
const POLL = /^GET \/api\/v1\/batches\//
const polls = () => fake.calls.filter(call => POLL.test(call)).length

describe('sluice batch run', () => {
  it('uploads, starts, waits and fetches, and says so', async () => {
    const { code, stderr, stdout } = await batch(...RUN, '--max-cost-usd', '1.5')
    expect(code).toBe(0)
    expect(stdout).toBe('')
    expect(read('out.jsonl')).toBe(answered('one', 'two', 'three'))
    expect(existsSync(join(cwd, 'out.errors.jsonl'))).toBe(false)
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
    expect(readdirSync(cwd).toSorted()).toEqual(['in.jsonl', 'out.jsonl'])
  })

  it('says no more than what matters with --no-progress', async () => {
    const { stderr } = await batch(...RUN, '--no-progress')
    expect(stderr.split('\n')).toHaveLength(5)
  })

  it('ends with 1 if a line failed, and fetches its error', async () => {
    write('in.jsonl', 'one\nfail\n')
    const { code, stderr } = await batch(...RUN)
    expect(code).toBe(1)
    expect(read('out.jsonl')).toBe(answered('one'))
    expect(read('out.errors.jsonl')).toBe('{"failed":"fail"}\n')
    expect(stderr).toContain(
      'completed: 2 lines, 1 succeeded, 1 failed, $0.0010\nanswers in out.jsonl, errors in out.errors.jsonl\n',
    )
  })

  it('leaves nothing of an earlier run beside its answers', async () => {
    write('in.jsonl', 'fail\n')
    write('out.jsonl', 'of an earlier run')
    expect((await batch(...RUN)).code).toBe(1)
    expect(read('out.jsonl')).toBe('')
    write('in.jsonl', 'one\n')
    expect((await batch(...RUN)).code).toBe(0)
    expect(existsSync(join(cwd, 'out.errors.jsonl'))).toBe(false)
  })

  it('shows no new answers beside the errors of an earlier run, nor without their own', async () => {
    write('in.jsonl', 'one\nfail\n')
    write('out.jsonl', 'of an earlier run')
    write('out.errors.jsonl', 'of an earlier run')
    const errors = () => fake.batches[0]?.error
    fake.faultFor = ({ path }) => (path === `/v1/files/${errors()}/content` ? 'half' : null)
    const running = begin(...RUN)
    await running.says(/trying again/)
    running.kill('SIGINT')
    expect((await running.ended).code).toBe(130)
    expect([read('out.jsonl'), read('out.errors.jsonl')]).toEqual(['of an earlier run', 'of an earlier run'])
    expect(readdirSync(cwd).toSorted()).toEqual(['in.jsonl', 'out.errors.jsonl', 'out.jsonl'])
  })

  it('ends with 2 if the batch failed, says why, and leaves what was there', async () => {
    write('in.jsonl', 'invalid\n')
    write('out.jsonl', 'of an earlier run')
    const { code, stderr } = await batch(...RUN)
    expect(code).toBe(2)
    expect(stderr).toMatch(/sluice: batch_\d+ failed\n {2}line 1: invalid_json_line: Not JSON\.\n$/)
    expect(read('out.jsonl')).toBe('of an earlier run')
  })

  it('comes back to a batch that runs with the same file, from another process, and starts no second', async () => {
    await abandoned()
    const { code, stderr } = await batch(...RUN)
    expect(code).toBe(0)
    expect(stderr).toContain(`${fake.batches[0]!.id} is under way with this file already`)
    expect(fake.batches).toHaveLength(1)
    expect(read('out.jsonl')).toBe(answered('one', 'two', 'three'))
  })

  it('fetches the answers of a batch that ended while it was away, and starts no second', async () => {
    write('out.jsonl', 'of an earlier run')
    utimesSync(join(cwd, 'out.jsonl'), 1, 1)
    const one = await abandoned()
    while (one.status !== 'completed') fake.step(one)
    const { code, stderr } = await batch(...RUN)
    expect(code).toBe(0)
    expect(stderr).toContain(`${one.id} has ended with this file already: fetching its answers`)
    expect(read('out.jsonl')).toBe(answered('one', 'two', 'three'))
    expect(fake.batches).toHaveLength(1)
  })

  it('asks anew for another output, though answers for the first wait to be fetched', async () => {
    const one = await abandoned()
    while (one.status !== 'completed') fake.step(one)
    expect((await batch('run', 'in.jsonl', '-o', 'other.jsonl')).code).toBe(0)
    expect(fake.batches).toHaveLength(2)
    expect((await batch(...RUN)).stderr).toContain(`${one.id} has ended with this file already`)
    expect(fake.batches).toHaveLength(2)
  })

  it('fetches the answers after it was killed while it did, starts no second, and leaves nothing behind', async () => {
    write('in.jsonl', 'one\nfail\n')
    const hold = Promise.withResolvers<null>()
    const fetched = () => fake.calls.filter(call => call.endsWith('/content')).length
    fake.faultFor = ({ path }) => (path.endsWith('/content') && fetched() === 2 ? hold.promise : null)
    const first = begin(...RUN)
    await fake.until(() => fetched() === 2)
    first.kill('SIGKILL')
    await first.ended
    hold.resolve(null)
    expect(readdirSync(cwd)).toHaveLength(3)
    write(`.out.jsonl.${process.pid}.part`, 'of one that runs')
    expect((await batch(...RUN)).code).toBe(1)
    expect(fake.batches).toHaveLength(1)
    expect([read('out.jsonl'), read('out.errors.jsonl')]).toEqual([answered('one'), '{"failed":"fail"}\n'])
    expect(readdirSync(cwd).toSorted()).toEqual([
      `.out.jsonl.${process.pid}.part`,
      'in.jsonl',
      'out.errors.jsonl',
      'out.jsonl',
    ])
  })

  it('begins anew after a batch that was cancelled', async () => {
    const one = await abandoned()
    fake.move(one, 'cancelling')
    fake.move(one, 'cancelled', { output: [...fake.files.keys()][0]! })
    expect((await batch(...RUN)).code).toBe(0)
    expect(fake.batches).toHaveLength(2)
  })

  it('comes back to no batch with another limit of its cost than is asked for', async () => {
    const { id } = await abandoned('--max-cost-usd', '1.5')
    const { code, stderr } = await batch(...RUN, '--max-cost-usd', '2')
    expect(code).toBe(2)
    expect(stderr).toBe(
      `sluice: ${id} is under way with this file already, with --max-cost-usd 1.5: without --max-cost-usd you come back ` +
        `to it, \`sluice batch cancel ${id}\` stops it, --anew starts another beside it\n`,
    )
    expect((await batch(...RUN, '--max-cost-usd', '1.50')).code).toBe(0)
    expect(fake.batches).toHaveLength(1)
  })

  it('starts another with --anew, for another content, and once the first has been fetched', async () => {
    fake.stepping = false
    const first = begin(...RUN)
    await fake.until(() => polls() > 0)
    fake.stepping = true
    expect((await batch(...RUN, '--anew')).code).toBe(0)
    write('in.jsonl', 'four\n')
    expect((await batch('run', 'in.jsonl', '-o', 'four.jsonl')).code).toBe(0)
    await first.ended
    write('in.jsonl', 'one\ntwo\nthree\n')
    expect((await batch(...RUN)).code).toBe(0)
    expect(fake.batches).toHaveLength(4)
  })

  it('finds its batch behind a hundred others', async () => {
    const one = await abandoned()
    for (let n = 0; n < 150; n++) fake.batches.push({ ...structuredClone(one), id: `batch_9${n}`, metadata: {} })
    expect((await batch(...RUN)).code).toBe(0)
    expect(fake.batches).toHaveLength(151)
  })

  it('starts one batch, not two, when the answer to the start is lost', async () => {
    fake.faultFor = ({ method, path, nth }) =>
      method === 'POST' && path === '/v1/batches' && nth === 1 ? 'lost' : null
    const { code, stderr } = await batch(...RUN)
    expect(code).toBe(0)
    expect(stderr).toMatch(/^no answer from .*; trying again$/m)
    expect(count('POST /v1/batches')).toBe(1)
    expect(fake.batches).toHaveLength(1)
  })

  it('uploads again when the connection breaks, and does not for ever', async () => {
    fake.faultFor = ({ path, nth }) => (path === '/v1/files' && nth < 3 ? 'cut' : null)
    expect((await batch(...RUN)).code).toBe(0)
    fake.faultFor = ({ path }) => (path === '/v1/files' ? 'cut' : null)
    const { code, stderr } = await batch(...RUN)
    expect(code).toBe(2)
    expect(stderr).toMatch(/\nsluice: no answer from .+\n$/)
    expect(count('POST /v1/files')).toBe(6)
  })

  it('holds out while the server restarts, is overloaded, or is not ready', async () => {
    fake.stepping = false
    const running = begin(...RUN)
    await fake.until(() => polls() > 0)
    await fake.stop()
    await running.says(/no answer from .*; trying again\n/)
    await fake.start()
    await running.says(/the server answers again\n/)
    const before = polls()
    fake.faultFor = ({ path }) => {
      const more = polls() - before
      if (!path.startsWith('/api/v1/batches')) return null
      return (
        [{ status: 503, headers: { 'retry-after': '0' } }, { status: 429 }, { status: 502 }, 'cut' as const][more] ??
        null
      )
    }
    await fake.until(() => polls() > before + 4)
    fake.stepping = true
    expect((await running.ended).code).toBe(0)
    expect(read('out.jsonl')).toBe(answered('one', 'two', 'three'))
  })

  it('fetches the answers again when that breaks off in the middle, and shows no half of them', async () => {
    fake.faultFor = ({ path, nth }) =>
      path.endsWith('/content') && nth < 3 ? (nth === 1 ? 'half' : { status: 503 }) : null
    const { code } = await batch(...RUN)
    expect(code).toBe(0)
    expect(read('out.jsonl')).toBe(answered('one', 'two', 'three'))
    expect(readdirSync(cwd).toSorted()).toEqual(['in.jsonl', 'out.jsonl'])
  })

  it('fetches the answers also if nobody reads what it says', async () => {
    fake.stepping = false
    const running = begin(...RUN)
    await fake.until(() => polls() > 0)
    running.readNoMore()
    fake.stepping = true
    expect((await running.ended).code).toBe(0)
    expect(read('out.jsonl')).toBe(answered('one', 'two', 'three'))
  })

  it('ends with 2 on a bug of its own, wherever it is, not with the 1 of lines that failed', async () => {
    fake.stepping = false
    const bug = "process.on('SIGUSR2', () => { throw new Error('a bug') })"
    const bugged = { ...env(), NODE_OPTIONS: `--import "data:text/javascript,${encodeURIComponent(bug)}"` }
    const running = sluice(['batch', ...RUN], { cwd, env: bugged })
    await fake.until(() => polls() > 0)
    running.kill('SIGUSR2')
    const { code, stderr } = await running.ended
    expect(code).toBe(2)
    expect(stderr).toContain('sluice: Error: a bug\n')
  })

  it('writes through a symbolic link', async () => {
    mkdirSync(join(cwd, 'elsewhere'))
    write('elsewhere/real.jsonl', 'of an earlier run')
    symlinkSync('elsewhere/real.jsonl', join(cwd, 'out.jsonl'))
    expect((await batch(...RUN)).code).toBe(0)
    expect(read('elsewhere/real.jsonl')).toBe(answered('one', 'two', 'three'))
  })
})

describe('Ctrl-C', () => {
  it('leaves the batch running, says how to come back, and that does', async () => {
    fake.stepping = false
    const running = begin(...RUN)
    await fake.until(() => polls() > 0)
    running.kill('SIGINT')
    const { code, stderr } = await running.ended
    expect(code).toBe(130)
    const { id } = fake.batches[0]!
    expect(stderr).toContain(
      `${id} goes on without us. To come back:\n  sluice batch resume ${id} -o out.jsonl\nTo stop it:\n  sluice batch cancel ${id}\n`,
    )
    expect(fake.batches[0]!.status).toBe('validating')
    expect(readdirSync(cwd)).toEqual(['in.jsonl'])
    fake.stepping = true
    expect((await batch('resume', id, '-o', 'out.jsonl')).code).toBe(0)
    expect(read('out.jsonl')).toBe(answered('one', 'two', 'three'))
  })

  it('and the end of the terminal are the same to it', async () => {
    fake.stepping = false
    const running = begin(...RUN)
    await fake.until(() => polls() > 0)
    running.kill('SIGHUP')
    const { code, stderr } = await running.ended
    expect(code).toBe(129)
    expect(stderr).toContain(`sluice batch resume ${fake.batches[0]!.id} -o out.jsonl\n`)
  })

  it('is heard while the server does not answer, and while it is away', async () => {
    const hold = Promise.withResolvers<null>()
    onTestFinished(() => hold.resolve(null))
    fake.faultFor = ({ path }) => (POLL.test(`GET ${path}`) ? hold.promise : null)
    const waiting = begin(...RUN)
    await fake.until(() => polls() > 0)
    waiting.kill('SIGINT')
    expect((await waiting.ended).code).toBe(130)
    const away = begin(...RUN)
    await fake.until(() => polls() > 1)
    await fake.stop()
    await away.says(/trying again/)
    away.kill('SIGINT')
    expect((await away.ended).code).toBe(130)
  })

  it('leaves no half of the answers behind, and says how to get the whole', async () => {
    fake.faultFor = ({ path }) => (path.endsWith('/content') ? 'half' : null)
    const running = begin(...RUN)
    await running.says(/trying again/)
    running.kill('SIGINT')
    const { code, stderr } = await running.ended
    expect(code).toBe(130)
    const { id } = fake.batches[0]!
    expect(stderr).toContain(`To fetch the answers of ${id}:\n  sluice batch resume ${id} -o out.jsonl\n`)
    expect(readdirSync(cwd)).toEqual(['in.jsonl'])
  })

  it('starts nothing when it comes during the upload', async () => {
    const hold = Promise.withResolvers<null>()
    onTestFinished(() => hold.resolve(null))
    fake.faultFor = ({ path }) => (path === '/v1/files' ? hold.promise : null)
    const running = begin(...RUN)
    await fake.until(() => count('POST /v1/files') > 0)
    running.kill('SIGINT')
    const { code, stderr } = await running.ended
    expect(code).toBe(130)
    expect(stderr).toContain('interrupted.')
    expect(fake.batches).toEqual([])
  })
})

describe('the other commands', () => {
  it('status, cancel and list say how it stands', async () => {
    fake.stepping = false
    const running = begin(...RUN)
    await fake.until(() => polls() > 0)
    const one = fake.batches[0]!
    fake.step(one)
    const { id } = one
    expect((await batch('status', id)).stdout).toMatch(
      new RegExp(`^${id} {2}in progress, 0 of 3 \\(0%\\), 1 min 30 s left, \\$0\\.0000\\ncreated .+Z\\n$`),
    )
    expect(JSON.parse((await batch('status', id, '--json')).stdout)).toMatchObject({ id, counts: { total: 3 } })
    expect(await batch('cancel', id)).toEqual({ code: 0, stdout: `${id} is cancelling\n`, stderr: '' })
    fake.stepping = true
    const ran = await running.ended
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('cancelled: 3 lines, 0 succeeded, 3 cancelled, $0.0000\n')
    expect((await batch('list')).stdout).toMatch(new RegExp(`^${id}  cancelled    .+Z  /v1/chat/completions  0/3\\n$`))
  })

  it('a batch that ended cannot be cancelled', async () => {
    await batch(...RUN)
    expect(await batch('cancel', fake.batches[0]!.id)).toEqual({
      code: 2,
      stdout: '',
      stderr: 'sluice: The batch is completed. (409 refused)\n',
    })
  })

  it('an id that is none is one line', async () => {
    for (const command of [
      ['status', 'batch_7'],
      ['cancel', 'batch_7'],
      ['resume', 'batch_7', '-o', 'out.jsonl'],
    ]) {
      expect(await batch(...command)).toMatchObject({
        code: 2,
        stderr: 'sluice: No such batch: batch_7 (404 refused)\n',
      })
    }
  })
})

describe('what cannot be done is one line, and 2', () => {
  const cases: [string, string[], RegExp][] = [
    ['no such input', ['run', 'none.jsonl', '-o', 'out.jsonl'], /^sluice: none\.jsonl: no such file or directory\n$/],
    ['a directory for input', ['run', '.', '-o', 'out.jsonl'], /^sluice: \.: not a regular file\n$/],
    ['an empty input', ['run', 'empty', '-o', 'out.jsonl'], /^sluice: empty: is empty\n$/],
    ['a directory for output', ['run', 'in.jsonl', '-o', '.'], /^sluice: \.: not a regular file\n$/],
    ['a device for output', ['run', 'in.jsonl', '-o', '/dev/null'], /^sluice: \/dev\/null: not a regular file\n$/],
    ['output in no directory', ['run', 'in.jsonl', '-o', 'no/out'], /^sluice: no\/out: no such file or directory\n$/],
    ['the input for output', ['run', 'in.jsonl', '-o', './in.jsonl'], /would overwrite the input\n$/],
    ['no output', ['run', 'in.jsonl'], /^error: required option '-o, --output <file>' not specified\n$/],
    ['an amount that is none', [...RUN, '--max-cost-usd', '-1'], /^error: .*Not an amount above 0\.\n$/],
    ['an option that is none', [...RUN, '--nope'], /^error: unknown option '--nope'\n$/],
    ['a URL that is none', [...RUN, '--url', 'localhost:8080'], /^error: .*Not an http\(s\) URL\.\n$/],
    ['a wrong key', [...RUN, '--key', 'wrong'], /^sluice: the server does not accept the API key \(401\): /],
    [
      'a key that cannot be sent',
      [...RUN, '--key', 'k\ney'],
      /^sluice: the API key holds a character that no key has\n$/,
    ],
    [
      'an endpoint that is none',
      [...RUN, '--endpoint', '/v1/nope'],
      /\nsluice: No such endpoint: \/v1\/nope \(400 refused\)\n$/,
    ],
  ]
  it.each(cases)('%s', async (_, args, line) => {
    write('empty', '')
    const { code, stdout, stderr } = await batch(...args)
    expect(stderr).toMatch(line)
    expect(stderr).not.toMatch(/^\s+at /m)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(fake.batches).toEqual([])
  })

  it('nobody listening', async () => {
    const { url } = fake
    await fake.stop()
    const { code, stderr } = await sluice(['batch', ...RUN, '--url', url], { cwd, env: { SLUICE_API_KEY: KEY } }).ended
    expect(code).toBe(2)
    expect(stderr).toMatch(/^sluice: no answer from http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED.*\n$/)
  })

  it('another server than Sluice', async () => {
    fake.faultFor = () => ({ status: 404 })
    expect(await batch(...RUN)).toMatchObject({
      code: 2,
      stderr: 'sluice: that is no Sluice server, it answered 404 (see --url)\n',
    })
  })

  it('a full disk for what it prints', async () => {
    const full = openSync('/dev/full', 'w')
    onTestFinished(() => closeSync(full))
    const { code, stderr } = await sluice(['batch', 'list', '--json'], { cwd, env: env(), stdout: full }).ended
    expect(code).toBe(2)
    expect(stderr).toBe('sluice: the output cannot be written: no space left on the device\n')
  })

  it('a directory that cannot be written to', async () => {
    if (process.getuid?.() === 0) return
    chmodSync(cwd, 0o555)
    expect(await batch(...RUN)).toMatchObject({ code: 2, stderr: 'sluice: out.jsonl: permission denied\n' })
  })
})

describe('the key of `npm start`', () => {
  beforeEach(() => {
    mkdirSync(join(cwd, '.data'))
    write('.data/admin.key', `${KEY}\n`)
  })

  it('is used where no other is given, in the directory where it was started', async () => {
    expect((await sluice(['batch', 'list', '--url', fake.url], { cwd }).ended).code).toBe(0)
  })

  it('goes to no other machine', async () => {
    const { code, stderr } = await sluice(['batch', 'list', '--url', 'http://sluice.example'], { cwd }).ended
    expect({ code, stderr }).toEqual({ code: 2, stderr: 'sluice: no API key: give --key or SLUICE_API_KEY\n' })
  })
})
