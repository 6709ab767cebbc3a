import { expect, it } from 'vitest'
import { declaredCapabilities, unmetNeeds } from './capabilities.ts'

it('a model has the capabilities of its own name, otherwise those of the longest prefix', () => {
  const declared = { '*': { tools: false }, 'qwen3-*': { images: false }, 'qwen3-vl': { images: true } }
  expect(declaredCapabilities(declared, 'qwen3-vl')).toEqual({ images: true })
  expect(declaredCapabilities(declared, 'qwen3-8b')).toEqual({ images: false })
  expect(declaredCapabilities(declared, 'llama')).toEqual({ tools: false })
  expect(declaredCapabilities({ llama: { tools: false } }, 'constructor')).toEqual({})
})

it('an unknown capability is no reason to refuse a request', () => {
  expect(unmetNeeds({ tools: false, images: true }, ['tools', 'images', 'thinking'])).toEqual(['tools'])
})
