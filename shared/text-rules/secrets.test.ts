import { describe, expect, it } from 'vitest'
import { findSecrets } from './secrets.ts'

const found = (text: string) => findSecrets(text).map(one => [one.name, text.slice(one.start, one.end)])

// Assembled here, so that secret scanners do not report them.
const letters = 'aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6kL8nP0rS'
const upper = 'ABCDEFGHIJKLMNOP'
const hex = '0123456789abcdef'.repeat(4)
const json = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
const jwt = `${json({ alg: 'HS256', typ: 'JWT' })}.${json({ sub: '1234567890' })}.${letters.slice(0, 43)}`
const body = `${letters}\n${letters}\n`
const pem = (kind: string) => `-----BEGIN ${kind}PRIVATE KEY-----\n${body}-----END ${kind}PRIVATE KEY-----`

describe('findSecrets', () => {
  it.each([
    ['sk', `sk-${letters}`],
    ['sk', `sk-proj-${letters}_${letters}-x`],
    ['sk', `sk-ant-api03-${letters}-${letters}AA`],
    ['sk', `sk-or-v1-${hex}`],
    ['sk', `sk-sluice-${letters.slice(0, 20)}-${letters.slice(0, 22)}`],
    ['stripe', `sk_live_${letters.slice(0, 24)}`],
    ['stripe', `rk_live_${letters.slice(0, 24)}`],
    ['webhook', `whsec_${letters.slice(0, 32)}`],
    ['aws', `AKIA${upper}`],
    ['github', `ghp_${letters.slice(0, 36)}`],
    ['github', `github_pat_${letters.slice(0, 22)}_${(letters + letters).slice(0, 59)}`],
    ['gitlab', `glpat-${letters.slice(0, 20)}`],
    ['slack', `xoxb-123456789012-${letters.slice(0, 24)}`],
    ['slack-webhook', `https://hooks.slack.com/services/T0123ABCD/B0123ABCD/${letters.slice(0, 24)}`],
    ['google', `AIza${letters.slice(0, 35)}`],
    ['sendgrid', `SG.${letters.slice(0, 22)}.${letters.slice(0, 43)}`],
    ['npm', `npm_${letters.slice(0, 36)}`],
    ['huggingface', `hf_${letters.slice(0, 34)}`],
    ['jwt', jwt],
    ['private-key', pem('')],
    ['private-key', pem('RSA ')],
    ['private-key', pem('OPENSSH ').replaceAll('\n', '\\n')],
  ])('finds a key of %s', (name, key) => {
    for (const text of [key, `KEY="${key}"`, `Authorization: Bearer ${key}, and so on`, `${key}\n`]) {
      expect(found(text)).toEqual([[name, key]])
    }
  })

  it.each([
    `sk-proj-${letters}`,
    `whsec_${letters.slice(0, 32)}`,
    `AKIA${upper}`,
    `ghp_${letters.slice(0, 36)}`,
    `xoxb-123456789012-${letters.slice(0, 24)}`,
    jwt,
  ])('finds a key after an escape or separator: %s', key => {
    for (const before of [
      '__',
      '_',
      '-',
      'key_',
      'my-key-',
      '\\n',
      'KEY:\\r\\n',
      '\\t',
      '\\u0022',
      'token%3D',
      '%20',
      '**',
    ])
      expect(found(`${before}${key}`).map(([, token]) => token)).toEqual([key])
    expect(found(`__${key}__`)).toHaveLength(1)
    for (const before of ['n', 'a3D', '3D', '\\q']) expect(found(`${before}${key}`)).toEqual([])
  })

  it('finds a secret of AWS next to its name', () => {
    const secret = `${letters.slice(0, 36)}/+/a`
    for (const text of [
      `aws_secret_access_key = ${secret}`,
      `AWS_SECRET_KEY=${secret}`,
      `{"SecretAccessKey":"${secret}"}`,
      `"{\\"secretAccessKey\\": \\"${secret}\\"}"`,
      `<SecretAccessKey>${secret}</SecretAccessKey>`,
      `Secret access key: ${secret}`,
    ]) {
      expect(found(text)).toEqual([['aws-secret', secret]])
    }
    for (const text of [
      `sha1 ${secret}`,
      `secret: ${secret}`,
      `access key: ${secret}`,
      `SecretAccessKey: ${secret}a`,
    ]) {
      expect(found(text)).toEqual([])
    }
  })

  it('finds a private key whose end was cut off', () => {
    const cut = `-----BEGIN PRIVATE KEY-----\n${letters}\n${letters}`
    expect(found(`Here: ${cut}`)).toEqual([['private-key', cut]])
    expect(found(`${cut}\n\n${pem('')}`)).toHaveLength(2)
  })

  it.each([
    ['RSA PRIVATE KEY', ['Proc-Type: 4,ENCRYPTED', 'DEK-Info: AES-128-CBC,0A1B2C3D4E5F', '']],
    ['PGP PRIVATE KEY BLOCK', ['Version: GnuPG v2', 'Comment: https://gnupg.org', '']],
    ['PGP PRIVATE KEY BLOCK', ['']],
  ])('finds a private key with headers: %s %j', (kind, headers) => {
    const cut = [`-----BEGIN ${kind}-----`, ...headers, letters, letters].join('\n')
    for (const key of [cut, cut.replaceAll('\n', '\r\n'), cut.replaceAll('\n', '\\n')])
      expect(found(`Here: ${key}`)).toEqual([['private-key', key]])
  })

  it.each([
    ['a placeholder', 'sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx'],
    ['a class of CSS', 'sk-fading-circle-container-element'],
    ['a title', 'sk-learn-Random-Forest-Classifier-v2-tuned'],
    ['the end of a word', `disk-${letters}`],
    ['the end of a word of two', `hard-disk-${letters}`],
    ['a class of CSS in BEM', 'page__sk-fading-circle-container--sk-large-element'],
    ['a test key of Stripe', `sk_test_${letters.slice(0, 24)}`],
    ['an AWS id that is too long', `AKIA${upper}Q`],
    ['a token with an invalid header', `eyJhbGciOiJub25l.eyJzdWIiOiIxMjM0NTY3.${letters}`],
    ['a UUID', '550e8400-e29b-41d4-a716-446655440000'],
    ['a hash', hex],
    ['a certificate', `-----BEGIN CERTIFICATE-----\n${body}-----END CERTIFICATE-----`],
    ['a public key', `-----BEGIN PUBLIC KEY-----\n${body}-----END PUBLIC KEY-----`],
    ['text about keys', 'It is between -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY----- in the file.'],
    [
      'headers without a key',
      '-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: follows\n\nand so on',
    ],
    ['an opening marker alone', '-----BEGIN PRIVATE KEY----- is the first line of it'],
  ])('finds none in %s', (_, text) => {
    expect(found(text)).toEqual([])
  })

  it.each([
    'sk-',
    'eyJ-',
    'eyJ_eyJabcdefghijk',
    'eyJabcdefghijk-eyJabcdefghijk.',
    'sk-a_',
    '%3D',
    '\\n',
    'eyJabcdefghijk.',
    `${json({ alg: 'x' })}.`,
    '-----BEGIN PRIVATE KEY-----\n',
    '-----BEGIN PRIVATE KEY-----\na: ',
    '-----BEGIN PRIVATE KEY-----\na: b\n',
    'xoxb-',
    'AKIA',
    'A',
  ])(
    'is done with a megabyte of “%s”',
    piece => {
      const ends = findSecrets(piece.repeat(1_000_000 / piece.length)).map(one => one.end)
      expect(ends.every(end => end <= 1_000_000)).toBe(true)
    },
    60_000,
  )

  it.each(['a: ', '\na: b', '\\na: b ', '\n', '\\n', 'a'])(
    'is done with the start of a key and a megabyte of “%s”',
    piece => {
      expect(found(`-----BEGIN PRIVATE KEY-----\na: ${piece.repeat(1_000_000 / piece.length)}!`)).toEqual([])
    },
    60_000,
  )
})
