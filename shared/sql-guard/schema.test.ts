import { describe, expect, it } from 'vitest'
import { secretColumns } from './schema.ts'

describe('secretColumns', () => {
  it.each(
    `password passwd user_password passwordHash PASSWORD pwd secret client_secret clientSecret token access_token
    accessToken api_key apiKey APIKEY apikey ssn social_security_number credit_card creditcard_no card_number cvv
    private_key privateKey password_hash hash content_hash salt iban totp ssh_key recovery_code session_id
    account_number jwt`.split(/\s+/),
  )('names %s', column => expect(secretColumns({ people: ['id', column] })).toEqual([`people.${column}`]))

  it.each(
    `id name email total created_at hashtag tokenized basalt passenger passing compass key keyboard card_type
    account_id tax assigned number api_version`.split(/\s+/),
  )('does not name %s', column => expect(secretColumns({ people: [column] })).toEqual([]))

  it('checks tables and columns separately by their names', () => {
    expect(secretColumns({ 'auth.api_keys': [], 'public.tokens_of_love': ['id'], secrets: ['id', 'salt'] })).toEqual([
      'auth.api_keys',
      'secrets',
      'secrets.salt',
    ])
  })
})
