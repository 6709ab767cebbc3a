import { declaredCapabilities, type ModelCapabilities } from './capabilities.ts'

/** What an operator declares about a model of an endpoint. */
export type DeclaredModel = ModelCapabilities & {
  /** The name that the endpoint knows it by, such as an Azure deployment; absent: its own. */
  readonly upstream?: string
  /** It creates vectors. */
  readonly embeds?: true
}

/** What the catalogue needs to know of an endpoint that the operator declared. */
export type DeclaredEndpoint = {
  readonly name: string
  /** The provider of the built-in catalogue that has its models, with their prices and limits. */
  readonly catalogue?: string
  /** By name, or by a prefix that ends in `*`. */
  readonly models?: Readonly<Record<string, DeclaredModel>>
}

let endpoints: ReadonlyMap<string, DeclaredEndpoint> = new Map()
const listeners: (() => void)[] = []

/** Replaces the endpoints that this process knows. They are one fact of the whole process, like the built-in catalogue beside them. */
export function declareEndpoints(declared: readonly DeclaredEndpoint[]): void {
  endpoints = new Map(declared.map(one => [one.name, one]))
  for (const listener of listeners) listener()
}

/** Calls the function whenever the endpoints change, so that answers which depend on them are forgotten. */
export const onEndpointsDeclared = (listener: () => void): void => void listeners.push(listener)

/** The provider of the built-in catalogue that has the models of this one; itself unless the operator declared another. */
export const catalogueOf = (provider: string): string => endpoints.get(provider)?.catalogue ?? provider

/** What the operator declared about a model; empty: nothing. */
export const declaredModel = (provider: string, model: string): DeclaredModel =>
  declaredCapabilities(endpoints.get(provider)?.models, model)
