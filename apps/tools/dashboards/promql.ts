/** Adapted to the resolution of the graph, and never shorter than the scrape interval allows. */
export const RATE = '$__rate_interval'

/** A quantile of a histogram, over all processes, for each value of the labels; `where` as in `{stage="queue"}`. */
export const quantile = (q: number, histogram: string, by = '', where = ''): string =>
  `histogram_quantile(${q}, sum by (le${by && `, ${by}`}) (rate(${histogram}_bucket${where}[${RATE}])))`
