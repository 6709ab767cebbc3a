const words = (text: string) => new Set(text.trim().split(/\s+/))

/**
 * Functions that read nothing but their arguments, write nothing and return one value. None is told by a number how much
 * text or how many rows to make: hence no repeat, lpad, rpad and format (a width is enough for a gigabyte), no
 * generate_series.
 *
 * That does not bound memory. CTEs that each concatenate the one before ten times, a replace of each letter by a text, an
 * aggregate of a cross join: a short query can make values of a gigabyte, where Postgres stops. No look at the text would
 * tell, as rows multiply as well as letters. Whoever runs the query bounds its time, and the memory of its server.
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
  regexp_replace regexp_match regexp_count regexp_instr regexp_like regexp_substr
  to_char to_number to_date to_timestamp string_to_array
  abs ceil ceiling floor round trunc sign sqrt cbrt exp ln log log10 power mod div gcd lcm pi degrees radians
  sin cos tan asin acos atan atan2 width_bucket random
  now date_trunc date_part date_bin age isfinite clock_timestamp statement_timestamp transaction_timestamp
  make_date make_time make_timestamp make_timestamptz make_interval justify_days justify_hours justify_interval
  array_length array_lower array_upper array_ndims cardinality array_to_string array_position array_positions
  array_remove array_append array_prepend array_cat
  to_json to_jsonb row_to_json json_build_object jsonb_build_object json_build_array jsonb_build_array
  json_array_length jsonb_array_length json_typeof jsonb_typeof json_extract_path json_extract_path_text
  jsonb_extract_path jsonb_extract_path_text jsonb_strip_nulls
  num_nulls num_nonnulls
`)

/** What the grammar itself calls in pg_catalog: EXTRACT, SUBSTRING, TRIM, POSITION, OVERLAY, AT TIME ZONE, OVERLAPS… */
export const SYNTAX_FUNCTIONS = words(`
  extract substring btrim ltrim rtrim position overlay timezone overlaps normalize is_normalized
`)

/** The same for LIKE … ESCAPE and SIMILAR TO, which it does not mark as syntax. */
export const ESCAPE_FUNCTIONS = words('like_escape similar_to_escape')

/** CURRENT_USER and its like say who the server is to the database. */
export const VALUE_FUNCTIONS = words(`
  SVFOP_CURRENT_DATE SVFOP_CURRENT_TIME SVFOP_CURRENT_TIME_N SVFOP_CURRENT_TIMESTAMP SVFOP_CURRENT_TIMESTAMP_N
  SVFOP_LOCALTIME SVFOP_LOCALTIME_N SVFOP_LOCALTIMESTAMP SVFOP_LOCALTIMESTAMP_N
`)

/** The built-in operators, and the words that the grammar puts in their place. */
export const OPERATORS = words(`
  + - * / % ^ |/ ||/ @ & | # ~ << >> || = <> != < > <= >= ~~ !~~ ~~* !~~* ~* !~ !~* ^@
  -> ->> #> #>> @> <@ ? ?| ?& && -|- &< &> #- @? @@
  BETWEEN SYMMETRIC
`)
  .add('NOT BETWEEN')
  .add('BETWEEN SYMMETRIC')
  .add('NOT BETWEEN SYMMETRIC')

/** Names as the grammar gives them. Nothing that looks up a name in the catalogue (regclass and its like), no xml. */
export const TYPES = words(`
  bool boolean int2 int4 int8 smallint integer int bigint float4 float8 real numeric decimal money
  text varchar bpchar char citext date time timetz timestamp timestamptz interval
  uuid json jsonb inet cidr bit varbit
`)

/** These fill up a value to the length they are given, as lpad does; to at most so many characters or bits. */
export const PADDED_TYPES = words('bpchar bit')
export const MAX_PADDED = 1000

/** Not columns of the user's making; they tell of transactions, storage and other tables. */
export const SYSTEM_COLUMNS = words('ctid xmin xmax cmin cmax tableoid')

/**
 * What shows a row of any table, or tells of it, when it is written as a column, `orders.to_json`, and the table has no
 * such column. All that Postgres 18 brings along; a database may have others, of its own making.
 */
export const ROW_FUNCTIONS = words(`
  row_to_json to_json to_jsonb json_build_array jsonb_build_array
  json_agg jsonb_agg json_agg_strict jsonb_agg_strict array_agg any_value min max
  concat quote_literal quote_nullable record_out record_send hash_record pg_column_size
`)
