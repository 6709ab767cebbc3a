const words = (text: string) => new Set(text.trim().split(/\s+/))

/**
 * Functions that read only their arguments, write nothing and return one value. Functions with an argument that
 * determines the size of the result are in BOUNDED, with their limits.
 *
 * The list does not bound memory. With CTEs that each concatenate the previous one ten times, a replace of each letter
 * by a text, or an aggregate of a cross join, a short query can create values of a gigabyte, the limit of Postgres. A
 * check of the text cannot detect that. The caller must limit the time of the query and the memory of the server.
 */
export const FUNCTIONS = words(`
  count sum avg min max bool_and bool_or every bit_and bit_or bit_xor any_value string_agg array_agg
  json_agg jsonb_agg json_object_agg jsonb_object_agg
  stddev stddev_pop stddev_samp variance var_pop var_samp corr covar_pop covar_samp
  regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
  percentile_cont percentile_disc mode
  row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
  lower upper initcap length char_length character_length octet_length bit_length concat concat_ws left right reverse
  replace translate split_part strpos substr substring btrim ltrim rtrim starts_with ascii chr md5 overlay
  regexp_replace regexp_match regexp_count regexp_instr regexp_like regexp_substr regexp_split_to_array to_hex
  to_char to_number to_date to_timestamp string_to_array
  abs ceil ceiling floor round trunc sign sqrt cbrt exp ln log log10 power mod div gcd lcm pi degrees radians
  sin cos tan cot asin acos atan atan2 sinh cosh tanh width_bucket random scale trim_scale min_scale
  now date date_trunc date_part date_bin date_add date_subtract timezone age isfinite clock_timestamp statement_timestamp transaction_timestamp
  make_date make_time make_timestamp make_timestamptz make_interval justify_days justify_hours justify_interval
  array_length array_lower array_upper array_ndims cardinality array_to_string array_position array_positions
  array_remove array_replace array_append array_prepend array_cat trim_array
  to_json to_jsonb row_to_json json_build_object jsonb_build_object json_build_array jsonb_build_array
  json_array_length jsonb_array_length json_typeof jsonb_typeof json_extract_path json_extract_path_text
  jsonb_extract_path jsonb_extract_path_text jsonb_strip_nulls json_strip_nulls jsonb_pretty jsonb_set jsonb_insert
  jsonb_path_exists jsonb_path_match jsonb_path_query_first jsonb_path_query_array
  to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd
  num_nulls num_nonnulls
`)

/**
 * Functions that return a row for each part of an argument, with the names of their columns. `alias`: one column with
 * the name of the table. `element`: the same, unless the elements are rows with columns of their own.
 */
export const SET_FUNCTIONS = new Map<string, 'alias' | 'element' | readonly string[]>([
  ['unnest', 'element'],
  ...words(
    'generate_series generate_subscripts regexp_matches regexp_split_to_table string_to_table json_object_keys jsonb_object_keys',
  )
    .values()
    .map(name => [name, 'alias'] as const),
  ...words('json_array_elements json_array_elements_text jsonb_array_elements jsonb_array_elements_text')
    .values()
    .map(name => [name, ['value']] as const),
  ...words('json_each json_each_text jsonb_each jsonb_each_text')
    .values()
    .map(name => [name, ['key', 'value']] as const),
])

/**
 * Functions in pg_catalog that the grammar itself calls: EXTRACT, SUBSTRING, TRIM, POSITION, OVERLAY, AT TIME ZONE,
 * OVERLAPS…
 */
export const SYNTAX_FUNCTIONS = words(`
  extract substring btrim ltrim rtrim position overlay timezone overlaps normalize is_normalized
`)

/** Functions for LIKE … ESCAPE and SIMILAR TO, whose calls the grammar does not mark as syntax. */
export const ESCAPE_FUNCTIONS = words('like_escape similar_to_escape')

/** Without CURRENT_USER and similar values, which reveal the role of the server. */
export const VALUE_FUNCTIONS = words(`
  SVFOP_CURRENT_DATE SVFOP_CURRENT_TIME SVFOP_CURRENT_TIME_N SVFOP_CURRENT_TIMESTAMP SVFOP_CURRENT_TIMESTAMP_N
  SVFOP_LOCALTIME SVFOP_LOCALTIME_N SVFOP_LOCALTIMESTAMP SVFOP_LOCALTIMESTAMP_N
`)

/** The built-in operators, and the keywords that the grammar uses as operators. */
export const OPERATORS = words(`
  + - * / % ^ |/ ||/ @ & | # ~ << >> || = <> != < > <= >= ~~ !~~ ~~* !~~* ~* !~ !~* ^@
  -> ->> #> #>> @> <@ ? ?| ?& && -|- &< &> #- @? @@
  BETWEEN SYMMETRIC
`)
  .add('NOT BETWEEN')
  .add('BETWEEN SYMMETRIC')
  .add('NOT BETWEEN SYMMETRIC')

/** Type names as in the grammar. No types that look up names in the catalogue (regclass and similar), no xml. */
export const TYPES = words(`
  bool boolean int2 int4 int8 smallint integer int bigint float4 float8 real numeric decimal money
  text varchar bpchar char citext date time timetz timestamp timestamptz interval
  uuid json jsonb inet cidr bit varbit
`)

/** Types that pad a value to their length, as lpad does, and the maximum length. */
export const PADDED_TYPES = words('bpchar bit')
export const MAX_PADDED = 1000

/** Hidden columns of every table, which reveal transactions, storage and other tables. */
export const SYSTEM_COLUMNS = words('ctid xmin xmax cmin cmax tableoid')

/**
 * Functions that reveal a row when written as a column, `orders.to_json`, of a table without such a column. All
 * built-in ones of Postgres 18; a database may define others.
 */
export const ROW_FUNCTIONS = words(`
  row_to_json to_json to_jsonb json_build_array jsonb_build_array
  json_agg jsonb_agg json_agg_strict jsonb_agg_strict array_agg any_value min max
  concat quote_literal quote_nullable record_out record_send hash_record pg_column_size
`)
