/** @param pattern a name, or a prefix that ends in `*` */
export const matchesName = (pattern: string, model: string): boolean =>
  pattern.endsWith('*') ? model.startsWith(pattern.slice(0, -1)) : model === pattern
