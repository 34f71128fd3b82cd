// Softmax and attention through the C interface, against their definitions: quotients that are rounded, sums in 64 bits.

#include <math.h>

#include "check.h"

enum { MAX_QUERIES = 20, MAX_KEYS = 140, MAX_HEADS = 3, MAX_SIZE = 32, MAX_WIDTH = MAX_HEADS * MAX_SIZE };

static uint8_t q[MAX_QUERIES * MAX_WIDTH], k[MAX_KEYS * MAX_WIDTH], v[MAX_KEYS * MAX_WIDTH], y[MAX_QUERIES * MAX_WIDTH];
static uint8_t visible[MAX_QUERIES * MAX_KEYS];

/// -log2(e / sum) as FQ-ViT rounds it: the quotient to the nearest integer, then that to a power of two.
static int level_by_ratio(uint64_t e, uint64_t sum) {
  uint64_t ratio = sum / e;
  const uint64_t rest = sum % e;
  ratio += rest > e - rest || (rest == e - rest && ratio % 2 == 1) ? 1 : 0;
  const int below = bit_length(ratio) - 1;
  const uint64_t power = (uint64_t)1 << below;
  return below + (2 * (ratio - power) >= power ? 1 : 0);
}

/// The same rounded as a logarithm.
static int level_by_log(uint64_t e, uint64_t sum) {
  return (int)rintl(log2l((long double)sum / (long double)e));
}

/// The code of a key.
static int code_of(uint64_t e, uint64_t sum, intact_attention_code format, intact_log2_rounding rounding) {
  const int level = e == 0 ? 1000 : rounding == INTACT_ROUND_RATIO ? level_by_ratio(e, sum) : level_by_log(e, sum);
  if (format == INTACT_CODE_U8_FULL) {
    return level > 254 ? 255 : level;
  }
  return level <= 15 ? level : format == INTACT_CODE_U8_MASKED ? 16 : 15;
}

/// The largest logit of the keys that a query sees; -1 if it sees none.
static int largest_of(const uint8_t* logits, const uint8_t* mask, ptrdiff_t keys) {
  int largest = -1;
  for (ptrdiff_t j = 0; j < keys; ++j) {
    if ((mask == NULL || mask[j] != 0) && logits[j] > largest) {
      largest = logits[j];
    }
  }
  return largest;
}

/// The codes of a row of logits.
static void code_row(const uint8_t* logits, const uint8_t* mask, ptrdiff_t keys, const intact_log_softmax_stage* stage,
                     uint8_t* codes) {
  const int largest = largest_of(logits, mask, keys);
  uint64_t sum = 0;
  for (ptrdiff_t j = 0; j < keys; ++j) {
    sum += mask == NULL || mask[j] != 0 ? stage->exponential[largest - logits[j]] : 0;
  }
  for (ptrdiff_t j = 0; j < keys; ++j) {
    const uint64_t e = mask == NULL || mask[j] != 0 ? stage->exponential[largest - logits[j]] : 0;
    codes[j] = (uint8_t)code_of(e, sum, stage->codes, stage->rounding);
  }
}

static void check_softmax(ptrdiff_t queries, ptrdiff_t keys, float scale, const intact_executor* run) {
  static uint8_t logits[MAX_QUERIES * MAX_KEYS], codes[MAX_QUERIES * MAX_KEYS];
  uint64_t table[INTACT_SOFTMAX_TABLE_SIZE];
  for (size_t i = 0; i < sizeof logits; ++i) {
    logits[i] = (uint8_t)(i % 7 == 0 ? 250 : next_number());
    visible[i] = (uint8_t)(next_number() % 3);
  }
  memset(visible + keys, 0, (size_t)keys);  // a query that sees nothing
  for (intact_exponential kind = INTACT_I_EXP; kind <= INTACT_EXACT_EXP; ++kind) {
    CHECK_OK(intact_build_exponential(scale, keys, kind, table));
    for (int d = 0; d < INTACT_SOFTMAX_TABLE_SIZE; ++d) {  // within the error of the polynomial
      CHECK(fabs((double)table[d] / (double)table[0] - exp(-(double)scale * d)) < 0.02);
    }
    for (intact_attention_code format = INTACT_CODE_U8_MASKED; format <= INTACT_CODE_U8_FULL; ++format) {
      for (int variant = 0; variant < 4; ++variant) {
        const int is_packed = format == INTACT_CODE_U4_CLIPPED, is_masked = variant >= 2 && !is_packed;
        const intact_const_matrix mask = {visible, queries, keys, keys, INTACT_U8};
        const intact_log_softmax_stage stage = {table, format, variant % 2, is_masked ? &mask : NULL};
        const intact_const_matrix from = {logits, queries, keys, keys, INTACT_U8};
        const ptrdiff_t stride = is_packed ? keys + keys % 2 : keys;
        const intact_matrix to = {codes, queries, keys, stride, is_packed ? INTACT_U4 : INTACT_U8};
        CHECK_OK(intact_log_softmax(&from, &stage, &to, run));
        for (ptrdiff_t i = 0; i < queries; ++i) {
          uint8_t expected[MAX_KEYS];
          code_row(logits + i * keys, is_masked ? visible + i * keys : NULL, keys, &stage, expected);
          for (ptrdiff_t j = 0; j < keys; ++j) {
            const ptrdiff_t at = i * stride + j;
            CHECK((is_packed ? codes[at / 2] >> (at % 2 * 4) & 15 : codes[at]) == expected[j]);
          }
        }
      }
    }
  }
}

/// The weight of a log2 code, or 2^29 times that of codes of 8 bits.
static int64_t weight_of_code(int code, intact_attention_code format) {
  const int bits = format == INTACT_CODE_U8_FULL ? 44 : 15;
  return code <= bits ? (int64_t)1 << (bits - code) : 0;
}

/// The weights of a row of logits.
static void weigh_row(const intact_attention_parameters* p, const uint8_t* logits, const uint8_t* mask, ptrdiff_t keys,
                      int64_t* weights) {
  if (p->kind == INTACT_LOG2_OF_SUM) {
    const intact_log_softmax_stage stage = {p->exponential, p->codes, p->rounding, NULL};
    uint8_t codes[MAX_KEYS];
    code_row(logits, mask, keys, &stage, codes);
    for (ptrdiff_t j = 0; j < keys; ++j) {
      weights[j] = weight_of_code(codes[j], p->codes);
    }
    return;
  }
  const int largest = largest_of(logits, mask, keys);
  for (ptrdiff_t j = 0; j < keys; ++j) {
    if (mask != NULL && mask[j] == 0) {
      weights[j] = 0;
      continue;
    }
    const int entry = p->table[largest - logits[j]];
    weights[j] = p->kind == INTACT_LOG2_OF_MAX ? weight_of_code(entry, p->codes)
                 : p->kind == INTACT_WEIGHTS   ? entry
                                               : p->code_weights[entry];
  }
}

static int64_t scaled(const intact_tensor_scale* scale, int64_t sum) {
  return shifted_right(sum * ((int64_t)1 << scale->left_shift) * scale->multiplier + scale->offset, 32 + scale->shift);
}

/// The context of a channel of a query.
static int64_t context_of(const intact_attention_parameters* p, int64_t sum, int64_t weight_sum) {
  if (p->normalize_rows) {
    if (weight_sum == 0) {
      return p->divisor_zero_point;
    }
    const int e = bit_length((uint64_t)weight_sum) > 24 ? 24 : bit_length((uint64_t)weight_sum);
    const int64_t multiplier = (p->divisor * ((int64_t)1 << e) + weight_sum / 2) / weight_sum;
    return shifted_right(sum * multiplier + (2 * p->divisor_zero_point + 1) * ((int64_t)1 << (27 + e)), 28 + e);
  }
  if (p->codes == INTACT_CODE_U8_FULL) {
    // (sum * multiplier + offset * 2^29) / 2^(61 + shift), in two parts of the sum.
    const int64_t high = shifted_right(sum, 29), low = sum - high * ((int64_t)1 << 29);
    const int64_t product = high * p->context.multiplier + shifted_right(low * p->context.multiplier, 29);
    return shifted_right(product + p->context.offset, 32 + p->context.shift);
  }
  return scaled(&p->context, sum);
}

/// Sizes of attention, and whether keys are masked.
typedef struct attention_case {
  ptrdiff_t queries, keys, heads, size;
  int is_masked;
} attention_case;

static void check_attention(const attention_case* c, const intact_recipe* recipe, const intact_executor* run) {
  const ptrdiff_t width = c->heads * c->size;
  for (size_t i = 0; i < sizeof q; ++i) {
    q[i] = (uint8_t)next_number();
  }
  for (size_t i = 0; i < sizeof k; ++i) {
    k[i] = (uint8_t)next_number();
    v[i] = (uint8_t)next_number();
  }
  for (size_t i = 0; i < sizeof visible; ++i) {
    visible[i] = (uint8_t)(next_number() % 4);
  }
  const intact_attention_spec spec = {recipe,
                                      c->heads,
                                      c->size,
                                      c->keys,
                                      {0.03f, 120, NULL, 0},
                                      {0.02f, 131, NULL, 0},
                                      {0.01f, 125, NULL, 0},
                                      {0.05f, 128, NULL, 0},
                                      {0.008f, 119, NULL, 0}};
  size_t table_bytes, bytes;
  CHECK_OK(intact_attention_tables_bytes(&table_bytes));
  void* const tables = allocate_odd(table_bytes);
  intact_attention_parameters p;
  CHECK_OK(intact_build_attention(&spec, tables, table_bytes, &p));
  CHECK_OK(intact_attention_workspace_bytes(c->keys, c->heads, c->size, run == NULL ? 1 : run->threads, &bytes));
  void* const memory = allocate_odd(bytes);
  const intact_workspace workspace = {memory, bytes};
  const intact_const_matrix mask = {visible, c->queries, c->keys, c->keys, INTACT_U8};
  const intact_attention_operands operands = {{q, c->queries, width, width, INTACT_U8},
                                              {k, c->keys, width, width, INTACT_U8},
                                              {v, c->keys, width, width, INTACT_U8},
                                              120,
                                              131,
                                              125,
                                              c->is_masked ? &mask : NULL};
  const intact_matrix to = {y, c->queries, width, width, INTACT_U8};
  CHECK_OK(intact_attention(&operands, &p, &to, &workspace, run));
  for (ptrdiff_t h = 0; h < c->heads; ++h) {
    for (ptrdiff_t i = 0; i < c->queries; ++i) {
      uint8_t logits[MAX_KEYS];
      int64_t weights[MAX_KEYS], weight_sum = 0;
      for (ptrdiff_t j = 0; j < c->keys; ++j) {
        int64_t sum = 0;
        for (ptrdiff_t n = h * c->size; n < (h + 1) * c->size; ++n) {
          sum += (q[i * width + n] - 120) * (k[j * width + n] - 131);
        }
        logits[j] = (uint8_t)clamp(scaled(&p.logits, sum), 0, 255);
        const double real = 0.03f * 0.02f / sqrt((double)c->size) / 0.05f * (double)sum + 128;
        CHECK(fabs(logits[j] - (real < 0 ? 0 : real > 255 ? 255 : real)) < 0.5 + 1e-4);
      }
      weigh_row(&p, logits, c->is_masked ? visible + i * c->keys : NULL, c->keys, weights);
      for (ptrdiff_t j = 0; j < c->keys; ++j) {
        weight_sum += weights[j];
      }
      for (ptrdiff_t n = h * c->size; n < (h + 1) * c->size; ++n) {
        int64_t sum = 0;
        for (ptrdiff_t j = 0; j < c->keys; ++j) {
          sum += weights[j] * (v[j * width + n] - 125);
        }
        CHECK(y[i * width + n] == clamp(context_of(&p, sum, weight_sum), 0, 255));
      }
    }
  }
  free_odd(memory);
  free_odd(tables);
}

static const intact_recipe recipes[] = {
    {.attention = INTACT_LOG2_OF_SUM},
    {.attention = INTACT_LOG2_OF_SUM, .probabilities = INTACT_CODE_U4_CLIPPED},
    {.attention = INTACT_LOG2_OF_SUM, .probabilities = INTACT_CODE_U8_FULL},
    {.attention = INTACT_LOG2_OF_SUM, .exponential = INTACT_EXACT_EXP, .rounding = INTACT_ROUND_LOG},
    {.attention = INTACT_LOG2_OF_SUM, .normalize_rows = 1},
    {.attention = INTACT_LOG2_OF_MAX,
     .exponential = INTACT_EXACT_EXP,
     .rounding = INTACT_ROUND_LOG,
     .normalize_rows = 1},
    {.attention = INTACT_LOG2_OF_MAX,
     .probabilities = INTACT_CODE_U4_CLIPPED,
     .exponential = INTACT_EXACT_EXP,
     .rounding = INTACT_ROUND_LOG,
     .normalize_rows = 1},
    {.attention = INTACT_WEIGHTS, .exponential = INTACT_EXACT_EXP, .rounding = INTACT_ROUND_LOG, .normalize_rows = 1},
    {.attention = INTACT_WEIGHT_CODES,
     .exponential = INTACT_EXACT_EXP,
     .rounding = INTACT_ROUND_LOG,
     .normalize_rows = 1}};

static void check_refusals(void) {
  uint64_t table[INTACT_SOFTMAX_TABLE_SIZE];
  CHECK_REFUSED(intact_build_exponential(0.1f, 10, 2, table),
                "intact_build_exponential: kind is 2; it must be in 0..1");
  CHECK(intact_build_exponential(2, 10, INTACT_I_EXP, table) == INTACT_INVALID_ARGUMENT);
  memset(table, 0, sizeof table);
  uint8_t logits[4] = {1, 2, 3, 4}, codes[4] = {9, 9, 9, 9};
  const intact_const_matrix from = {logits, 2, 2, 2, INTACT_U8};
  const intact_matrix to = {codes, 2, 2, 2, INTACT_U8};
  intact_log_softmax_stage stage = {table, INTACT_CODE_U8_MASKED, INTACT_ROUND_RATIO, NULL};
  CHECK(intact_log_softmax(&from, &stage, &to, NULL) == INTACT_INVALID_ARGUMENT);
  CHECK(strstr(intact_error_message(), "the exponential of 0 is 0") != NULL && codes[0] == 9);
  stage.codes = INTACT_CODE_U4_CLIPPED;
  CHECK_REFUSED(intact_log_softmax(&from, &stage, &to, NULL),
                "intact_log_softmax: type of codes is 1; it must be INTACT_U4");
  stage.mask = &from;
  CHECK_REFUSED(intact_log_softmax(&from, &stage, &to, NULL),
                "intact_log_softmax: there is a mask; INTACT_CODE_U4_CLIPPED has no code for masked keys");

  intact_recipe recipe = {.attention = INTACT_WEIGHTS};
  intact_attention_spec spec = {
      &recipe,           1, 2, 3, {0.1f, 0, NULL, 0}, {0.1f, 0, NULL, 0}, {0.1f, 0, NULL, 0}, {0.1f, 0, NULL, 0},
      {0.1f, 0, NULL, 0}};
  char memory[4096];
  intact_attention_parameters p;
  CHECK_REFUSED(intact_build_attention(&spec, memory, sizeof memory, &p),
                "intact::recipe: attention relative to the maximum does not sum to 1; choose normalize_rows = 1");
  const intact_recipe default_recipe = {.attention = INTACT_LOG2_OF_SUM};
  spec.recipe = &default_recipe;
  spec.v.zero_point = 256;
  CHECK(intact_build_attention(&spec, memory, sizeof memory, &p) == INTACT_INVALID_ARGUMENT);
  CHECK(strstr(intact_error_message(), "intact_build_attention: v has the scale") == intact_error_message());
  spec.v.zero_point = 255;
  CHECK(intact_build_attention(&spec, memory, 100, &p) == INTACT_INVALID_ARGUMENT);
  CHECK_OK(intact_build_attention(&spec, memory, sizeof memory, &p));
  p.exponential = NULL;
  const intact_attention_operands operands = {from, from, from, 0, 0, 0, NULL};
  const intact_workspace workspace = {memory, sizeof memory};
  CHECK_REFUSED(intact_attention(&operands, &p, &to, &workspace, NULL),
                "intact_attention: exponential is NULL; it must not be");
  CHECK_REFUSED(intact_attention(&operands, &p, &to, NULL, NULL),
                "intact_attention: workspace is NULL; it must not be");
  CHECK(codes[0] == 9);
}

int main(void) {
  ptrdiff_t count = 0;
  const intact_executor run = {3, run_backwards, &count};
  static const attention_case cases[] = {{1, 1, 1, 1, 0},     {7, 19, 2, 8, 0},   {20, 140, 3, 32, 0},
                                         {20, 140, 3, 32, 1}, {16, 16, 1, 31, 1}, {1, 65, 2, 16, 0}};
  check_softmax(2, 1, 0.05f, NULL);
  check_softmax(7, 33, 0.02f, NULL);
  check_softmax(20, 140, 0.1f, &run);
  for (size_t r = 0; r < sizeof recipes / sizeof *recipes; ++r) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
      if (!cases[i].is_masked || recipes[r].probabilities != INTACT_CODE_U4_CLIPPED) {
        check_attention(&cases[i], &recipes[r], NULL);
        check_attention(&cases[i], &recipes[r], &run);
      }
    }
  }
  CHECK(count > 3);
  check_refusals();
  printf("attention: as expected\n");
  return 0;
}
