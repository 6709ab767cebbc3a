import { type ImageSize, imageSize } from './image-size.ts'
import type { ImagePart } from './request.ts'

/** Upper bounds of the input tokens of images, by the formulas of the providers. */

/** Where a request goes. */
export type BoundTarget = { provider: string; model: string }

type Rule = {
  applies(target: BoundTarget): boolean
  /** @param size null: unknown */
  tokens(size: ImageSize | null, detail: ImagePart['detail'], model: string): number
}

/** Beyond this, no known server gives an image more tokens. */
const UNKNOWN_IMAGE = 50_000

/** Encoders of open models: at most 4 tiles of 1,601 tokens, or one token per 28 x 28 pixels up to 16,384. */
const OPEN_TILES = 6404
const OPEN_MAX = 16_384

const RULES: readonly Rule[] = [
  {
    // https://docs.claude.com/en/docs/build-with-claude/vision: width x height / 750, after a reduction to at most 2,576 pixels.
    applies: ({ provider, model }) => provider === 'anthropic' || /(^|[/.])claude-/.test(model),
    tokens: size => (size ? Math.min(4784, Math.max((size.width * size.height) / 750, patches(size, 28))) : 4784) + 16,
  },
  {
    // https://platform.openai.com/docs/guides/images-vision#calculating-costs
    applies: ({ provider, model }) => provider === 'openai' || /(^|\/)(gpt-[4-9]|chatgpt-|o\d)/.test(model),
    tokens: openAiTokens,
  },
  {
    // https://ai.google.dev/gemini-api/docs/tokens: 258 tokens for each tile of at least 256 pixels; 2,240 at the highest resolution.
    applies: ({ provider, model }) => provider === 'google' || /(^|\/)gemini-/.test(model),
    tokens: size => Math.max(2240, size ? Math.min(258 * patches(size, 256), OPEN_MAX) : OPEN_MAX),
  },
  {
    applies: ({ provider }) => provider === 'ollama',
    tokens: size => (size ? Math.max(OPEN_TILES, Math.min(patches(size, 28), OPEN_MAX)) : OPEN_MAX),
  },
]

/** @param target absent: any */
export function imageTokenBound({ source, detail }: ImagePart, target: BoundTarget | undefined): number {
  const rule = target && RULES.find(one => one.applies(target))
  if (!rule) return UNKNOWN_IMAGE
  const size = source.kind === 'base64' ? imageSize(source.data) : null
  return Math.ceil(rule.tokens(size, detail, target.model))
}

const patches = ({ width, height }: ImageSize, side: number): number =>
  Math.ceil(width / side) * Math.ceil(height / side)

/** Tokens of an image, and of each tile of 512 x 512 pixels. */
const TILED: readonly { pattern: RegExp; base: number; tile: number }[] = [
  { pattern: /(^|\/)(chatgpt-)?(gpt-)?4o-mini/, base: 2833, tile: 5667 },
  { pattern: /(^|\/)(o1|o3)(-|$)/, base: 75, tile: 150 },
  {
    pattern: /(^|\/)(chatgpt-4o|gpt-4o|gpt-4\.5|gpt-4-|gpt-4\.1(-\d{4}|$)|gpt-5(-\d{4}|-chat|-codex|-pro|$))/,
    base: 85,
    tile: 170,
  },
]

/** Patches of 32 x 32 pixels, and the highest factor of a model. */
const PATCH_FACTOR = 2.46
const MAX_PATCHES = { original: 10_000, auto: 10_000, high: 2500, low: 256 }

function openAiTokens(size: ImageSize | null, detail: ImagePart['detail'], model: string): number {
  const tiled = TILED.find(one => one.pattern.test(model))
  if (tiled) return tiled.base + (detail === 'low' ? 0 : tiled.tile * tiles(size))
  const max = MAX_PATCHES[detail ?? 'auto']
  return PATCH_FACTOR * Math.min(size ? patches(size, 32) : max, max)
}

const MAX_TILES = 8

/** The image is fitted into 2,048 pixels, then its shortest side becomes 768 pixels. */
function tiles(size: ImageSize | null): number {
  if (!size) return MAX_TILES
  const fit = Math.min(1, 2048 / Math.max(size.width, size.height))
  const scale = fit * (768 / (fit * Math.min(size.width, size.height)))
  return Math.min(MAX_TILES, Math.ceil((size.width * scale) / 512) * Math.ceil((size.height * scale) / 512))
}
