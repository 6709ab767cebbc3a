import { expect, it } from 'vitest'
import { fullestOf } from './connect.ts'

const master = (usedBytes: number, maxBytes: number, evicts = false) => ({ usedBytes, maxBytes, evicts })

it('a cluster is as full as the fullest of its masters', () => {
  expect(fullestOf([master(10, 100), master(90, 100), master(500, 1000)])).toEqual(master(90, 100))
  expect(fullestOf([master(500, 0), master(90, 100)])).toEqual(master(90, 100))
  expect(fullestOf([master(10, 0), master(20, 0)])).toEqual(master(20, 0))
})

it('a cluster evicts if one of its masters evicts', () => {
  expect(fullestOf([master(90, 100), master(10, 100, true)])).toEqual(master(90, 100, true))
})
