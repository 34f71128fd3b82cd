// Products with weights through the C interface, against loops in 64 bits and the definitions of other runtimes.

#include <math.h>

#include "check.h"

enum { MAX_ROWS = 40, MAX_CHANNELS = 300, MAX_DEPTH = 700 };

/// Operands of a product, their packed weights and the expected sums.
typedef struct problem {
  ptrdiff_t rows, channels, depth;
  intact_type a_type;
  uint8_t a_bytes[MAX_ROWS * (MAX_DEPTH + 3)];
  int weight[MAX_CHANNELS * MAX_DEPTH];  ///< with shifts
  uint8_t stored[MAX_CHANNELS * MAX_DEPTH + 2];
  uint8_t shifts[MAX_CHANNELS * (MAX_DEPTH / 8 + 1)];
  intact_weights weights;
  void* memory;
  const intact_packed_weights* packed;
  int64_t sums[MAX_ROWS * MAX_CHANNELS];
} problem;

static problem p;

static int code_of_a(ptrdiff_t m, ptrdiff_t k) {
  const uint8_t byte = p.a_bytes[m * (p.depth + 3) + k];
  return p.a_type == INTACT_S8 ? (int8_t)byte : byte;
}

static intact_const_matrix a_matrix(void) {
  const intact_const_matrix a = {p.a_bytes, p.rows, p.depth, p.depth + 3, p.a_type};
  return a;
}

static void fill_s4(ptrdiff_t stride, ptrdiff_t group) {
  for (ptrdiff_t n = 0; n < p.channels; ++n) {
    for (ptrdiff_t k = 0; k < p.depth; ++k) {
      const int code = (int)(next_number() % 16) - 8;
      uint8_t* const byte = &p.stored[(n * stride + k) / 2];
      *byte = (uint8_t)(k % 2 == 0 ? (*byte & 0xf0) | (code & 15) : (*byte & 0x0f) | ((code & 15) << 4));
      int shift = 0;
      if (group != 0) {
        const ptrdiff_t groups = (p.depth + group - 1) / group;
        uint8_t* const own = &p.shifts[n * groups + k / group];
        *own = k % group == 0 ? (uint8_t)(next_number() % 4) : *own;
        shift = *own;
      }
      p.weight[n * p.depth + k] = code * (1 << shift);
    }
  }
}

/// Makes a problem of a shape. `group`: -1 for s8 weights, 0 for s4 ones, or columns that share a shift.
static void make_problem(ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t depth, intact_type a_type, ptrdiff_t group) {
  memset(&p, 0, sizeof p);
  p.rows = rows;
  p.channels = channels;
  p.depth = depth;
  p.a_type = a_type;
  for (size_t i = 0; i < sizeof p.a_bytes; ++i) {
    p.a_bytes[i] = (uint8_t)next_number();
  }
  if (group < 0) {
    for (ptrdiff_t i = 0; i < channels * depth; ++i) {
      p.stored[i] = (uint8_t)next_number();
      p.weight[i] = (int8_t)p.stored[i];
    }
    const intact_const_matrix codes = {p.stored, channels, depth, depth, INTACT_S8};
    p.weights.codes = codes;
  } else {
    const ptrdiff_t stride = depth + depth % 2;
    fill_s4(stride, group);
    const intact_const_matrix codes = {p.stored, channels, depth, stride, INTACT_S4};
    p.weights.codes = codes;
    if (group != 0) {
      const ptrdiff_t groups = (depth + group - 1) / group;
      const intact_const_matrix shifts = {p.shifts, channels, groups, groups, INTACT_U8};
      p.weights.shifts = shifts;
      p.weights.group = group;
    }
  }
  size_t bytes = 0;
  CHECK_OK(intact_packed_weights_bytes(&p.weights, &bytes));
  p.memory = allocate_odd(bytes);
  CHECK_OK(intact_pack_weights(&p.weights, p.memory, bytes, &p.packed));
  CHECK(p.packed != NULL);
  for (ptrdiff_t m = 0; m < rows; ++m) {
    for (ptrdiff_t n = 0; n < channels; ++n) {
      int64_t sum = 0;
      for (ptrdiff_t k = 0; k < depth; ++k) {
        sum += (int64_t)code_of_a(m, k) * p.weight[n * depth + k];
      }
      p.sums[m * channels + n] = sum;
    }
  }
}

static void free_problem(void) {
  free_odd(p.memory);
}

/// Outputs of any type, with a column more than the product has, which must stay as it is.
static union {
  uint8_t u8[MAX_ROWS * (MAX_CHANNELS + 1)];
  int8_t s8[MAX_ROWS * (MAX_CHANNELS + 1)];
  uint16_t u16[MAX_ROWS * (MAX_CHANNELS + 1)];
  int16_t s16[MAX_ROWS * (MAX_CHANNELS + 1)];
  int32_t s32[MAX_ROWS * (MAX_CHANNELS + 1)];
  float f32[MAX_ROWS * (MAX_CHANNELS + 1)];
} out;

static intact_product product_to(intact_type type) {
  memset(&out, 0x5a, sizeof out);
  const intact_product product = {a_matrix(), p.packed, {&out, p.rows, p.channels, p.channels + 1, type}};
  return product;
}

static int64_t output_at(intact_type type, ptrdiff_t at) {
  switch (type) {
    case INTACT_U8:
      return out.u8[at];
    case INTACT_S8:
      return out.s8[at];
    case INTACT_U12:
      return out.u16[at];
    case INTACT_S16:
      return out.s16[at];
    default:
      return out.s32[at];
  }
}

static void limits_of(intact_type type, int64_t* low, int64_t* high) {
  *low = type == INTACT_S8 ? -128 : type == INTACT_S16 ? -32768 : type == INTACT_S32 ? INT32_MIN : 0;
  *high = type == INTACT_U8    ? 255
          : type == INTACT_S8  ? 127
          : type == INTACT_U12 ? 4095
          : type == INTACT_S16 ? 32767
                               : INT32_MAX;
}

static void check_sums(const intact_executor* run) {
  const intact_product product = product_to(INTACT_S32);
  CHECK_OK(intact_gemm(&product, run));
  for (ptrdiff_t m = 0; m < p.rows; ++m) {
    for (ptrdiff_t n = 0; n < p.channels; ++n) {
      CHECK(out.s32[m * (p.channels + 1) + n] == p.sums[m * p.channels + n]);
    }
    CHECK(out.s32[m * (p.channels + 1) + p.channels] == 0x5a5a5a5a);
  }
}

static double factors[MAX_CHANNELS], addends[MAX_CHANNELS];
static int32_t multipliers[MAX_CHANNELS];
static int64_t offsets[MAX_CHANNELS];

/// A scale by which the codes of a type are all met.
static intact_channel_scale make_scale(intact_type y_type, int zero_point) {
  int64_t low, high;
  limits_of(y_type, &low, &high);
  for (ptrdiff_t n = 0; n < p.channels; ++n) {
    int64_t largest = 1;  // that occurs, or a sixteenth of the largest that could
    for (ptrdiff_t k = 0; k < p.depth; ++k) {
      largest += llabs(p.weight[n * p.depth + k]) * 255 / 16;
    }
    for (ptrdiff_t m = 0; m < p.rows; ++m) {
      const int64_t sum = llabs(p.sums[m * p.channels + n]);
      largest = sum > largest ? sum : largest;
    }
    const double codes = y_type == INTACT_S32 ? 100000 : (double)(high - low);
    factors[n] = codes / (double)largest * (0.7 + 0.01 * (double)n);
    addends[n] = (double)(low + high) / 2 + 0.1 * (double)n;
  }
  const intact_linear_spec spec = {&p.weights, factors, addends, zero_point, p.a_type};
  intact_channel_scale scale;
  CHECK_OK(intact_build_linear(&spec, multipliers, offsets, &scale));
  CHECK(scale.channels == p.channels && scale.multiplier == multipliers && scale.offset == offsets);
  return scale;
}

static int64_t scaled(const intact_channel_scale* scale, int64_t sum, ptrdiff_t n) {
  const int64_t one = (int64_t)1 << scale->left_shift;
  return shifted_right(sum * one * scale->multiplier[n] + scale->offset[n], 32 + scale->shift);
}

/// Codes equal the integers of the scale, and these are the real numbers within rounding.
static void check_codes(intact_type y_type, const intact_executor* run) {
  const int zero_point = p.a_type == INTACT_U8 ? 117 : -5;
  const intact_channel_scale scale = make_scale(y_type, zero_point);
  const intact_product product = product_to(y_type);
  CHECK_OK(intact_gemm_requantize(&product, &scale, run));
  int64_t low, high;
  limits_of(y_type, &low, &high);
  for (ptrdiff_t n = 0; n < p.channels; ++n) {
    int64_t of_weights = 0;
    for (ptrdiff_t k = 0; k < p.depth; ++k) {
      of_weights += p.weight[n * p.depth + k];
    }
    for (ptrdiff_t m = 0; m < p.rows; ++m) {
      const int64_t sum = p.sums[m * p.channels + n];
      const int64_t code = output_at(y_type, m * (p.channels + 1) + n);
      CHECK(code == clamp(scaled(&scale, sum, n), low, high));
      const double real = factors[n] * (double)(sum - zero_point * of_weights) + addends[n];
      const double limited = real < (double)low ? (double)low : real > (double)high ? (double)high : real;
      CHECK(fabs((double)code - limited) < 0.5 + 1e-3);  // 53 bits hold s32 codes with ten bits of fraction
    }
  }
}

static double gelu(double x) {
  return 0.5 * x * (1 + erf(x / sqrt(2.0)));
}

/// The codes of a layer and its activation equal the table's, and the table's are those of the function.
static void check_activation(const intact_executor* run) {
  const intact_activation_spec spec = {INTACT_GELU, -6, 9, 0.03, 7};
  uint8_t table[INTACT_ACTIVATION_TABLE_SIZE];
  double input_scale, input_zero_point;
  CHECK_OK(intact_build_activation(&spec, table, &input_scale, &input_zero_point));
  for (int k = 0; k < INTACT_ACTIVATION_TABLE_SIZE; ++k) {
    const double code = gelu((k - input_zero_point) * input_scale) / spec.output_scale + spec.output_zero_point;
    CHECK(fabs(table[k] - (code > 255 ? 255 : code)) < 0.5 + 1e-9);
  }
  const intact_channel_scale scale = make_scale(INTACT_U12, 0);
  const intact_product product = product_to(INTACT_U8);
  CHECK_OK(intact_gemm_activation(&product, &scale, table, run));
  for (ptrdiff_t m = 0; m < p.rows; ++m) {
    for (ptrdiff_t n = 0; n < p.channels; ++n) {
      const int64_t code = clamp(scaled(&scale, p.sums[m * p.channels + n], n), 0, 4095);
      CHECK(out.u8[m * (p.channels + 1) + n] == table[code]);
    }
  }
}

static void check_products(void) {
  static const ptrdiff_t shapes[][3] = {{1, 1, 1},      {1, 70, 33}, {2, 16, 8}, {7, 64, 4}, {19, 130, 67},
                                        {40, 150, 300}, {0, 3, 5},   {3, 0, 5},  {3, 5, 0}};
  static const ptrdiff_t groups[] = {-1, 0, 8, 32};
  static const intact_type types[] = {INTACT_U8, INTACT_S8, INTACT_U12, INTACT_S16, INTACT_S32};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s) {
    for (size_t g = 0; g < sizeof groups / sizeof *groups; ++g) {
      for (intact_type a_type = INTACT_U8; a_type <= INTACT_S8; ++a_type) {
        make_problem(shapes[s][0], shapes[s][1], shapes[s][2], a_type, groups[g]);
        check_sums(NULL);
        for (size_t t = 0; t < sizeof types / sizeof *types; ++t) {
          check_codes(types[t], NULL);
        }
        check_activation(NULL);
        free_problem();
      }
    }
  }
}

/// The longest rows of the largest codes: the sum is beyond 2^31 with one column more, which is refused.
static void check_extremes(void) {
  enum { LONGEST = 65793 };
  uint8_t* const a = malloc(LONGEST + 1);
  int8_t* const w = malloc(LONGEST + 1);
  CHECK(a != NULL && w != NULL);
  memset(a, 255, LONGEST + 1);
  memset(w, -128, LONGEST + 1);
  for (ptrdiff_t depth = LONGEST; depth <= LONGEST + 1; ++depth) {
    const intact_weights weights = {{w, 1, depth, depth, INTACT_S8}, {NULL, 0, 0, 0, 0}, 0};
    size_t bytes;
    CHECK_OK(intact_packed_weights_bytes(&weights, &bytes));
    void* const memory = malloc(bytes);
    const intact_packed_weights* packed;
    CHECK_OK(intact_pack_weights(&weights, memory, bytes, &packed));
    int32_t y = 7;
    const intact_product product = {{a, 1, depth, depth, INTACT_U8}, packed, {&y, 1, 1, 1, INTACT_S32}};
    if (depth == LONGEST) {
      CHECK_OK(intact_gemm(&product, NULL));
      CHECK(y == -255 * 128 * LONGEST);
    } else {
      CHECK_REFUSED(intact_gemm(&product, NULL), "intact::gemm: columns of a is 65794; it must be at most 65793");
      CHECK(y == 7);
    }
    free(memory);
  }
  free(a);
  free(w);
}

/// Any executor, the same bits.
static void check_executor(void) {
  ptrdiff_t count = 0;
  const intact_executor run = {3, run_backwards, &count};
  make_problem(40, 300, 700, INTACT_U8, -1);
  check_sums(&run);
  check_codes(INTACT_U8, &run);
  check_activation(&run);
  CHECK(count > 3);
  const intact_product product = product_to(INTACT_S32);
  const intact_executor none = {0, run_backwards, &count}, missing = {2, NULL, NULL};
  CHECK_REFUSED(intact_gemm(&product, &none),
                "intact_gemm: run has 0 threads and a for_each; it must have at least 1, and one");
  CHECK_REFUSED(intact_gemm(&product, &missing),
                "intact_gemm: run has 2 threads and no for_each; it must have at least 1, and one");
  free_problem();
}

// The definitions of other runtimes.

/// gemmlowp's SaturatingRoundingDoublingHighMul.
static int32_t doubled_high(int32_t a, int32_t b) {
  if (a == INT32_MIN && b == INT32_MIN) {
    return INT32_MAX;
  }
  const int64_t product = (int64_t)a * b;
  const int32_t nudge = product >= 0 ? 1 << 30 : 1 - (1 << 30);
  return (int32_t)((product + nudge) / ((int64_t)1 << 31));
}

/// gemmlowp's RoundingDivideByPOT.
static int32_t divided_by_power(int32_t x, int exponent) {
  const int32_t mask = (int32_t)(((int64_t)1 << exponent) - 1);
  const int32_t remainder = x & mask;
  const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
  return (int32_t)shifted_right(x, exponent) + (remainder > threshold ? 1 : 0);
}

static int64_t rounded_as(intact_rounding rounding, const intact_compat_layer* layer, int64_t sum, ptrdiff_t n) {
  const int64_t x = sum + layer->bias[n];
  const int32_t multiplier = layer->multiplier[n], exponent = layer->exponent[n];
  if (rounding == INTACT_ROUND_FLOAT32) {
    volatile float product = (float)(int32_t)x;
    product *= layer->factor[n];
    return (int64_t)rint(product < -100000 ? -100000 : product > 100000 ? 100000 : product);
  }
  if (rounding == INTACT_ROUND_HALF_EVEN) {
    return (int64_t)rint(ldexp((double)x * multiplier, exponent - 31));  // exact: 53 bits suffice for these sums
  }
  if (rounding == INTACT_ROUND_SINGLE) {
    return shifted_right(x * multiplier + ((int64_t)1 << (30 - exponent)), 31 - exponent);
  }
  const int left = exponent > 0 ? exponent : 0, right = exponent > 0 ? 0 : -exponent;
  return divided_by_power(doubled_high((int32_t)(x * ((int64_t)1 << left)), multiplier), right);
}

static void check_compat(intact_type w_type, int weight_zero_point, intact_factor_rule rule) {
  make_problem(19, 70, 67, INTACT_U8, -1);
  float weight_scale[MAX_CHANNELS];
  int32_t bias[MAX_CHANNELS];
  for (ptrdiff_t n = 0; n < p.channels; ++n) {
    weight_scale[n] = 0.002f + 0.0001f * (float)n;
    bias[n] = (int32_t)(next_number() % 4001) - 2000;
  }
  const int input_zero_point = 131;
  const intact_compat_spec spec = {{p.stored, p.channels, p.depth, p.depth, w_type},
                                   weight_zero_point,
                                   weight_scale,
                                   rule == INTACT_FACTOR_TFLITE_PER_TENSOR ? 1 : p.channels,
                                   bias,
                                   {0.07f, input_zero_point, NULL, 0},
                                   0.31f,
                                   rule};
  size_t bytes;
  CHECK_OK(intact_compat_layer_bytes(p.channels, p.depth, &bytes));
  void* const memory = allocate_odd(bytes);
  intact_compat_layer layer;
  CHECK_OK(intact_build_compat(&spec, memory, bytes, &layer));
  CHECK(layer.channels == p.channels);
  CHECK(layer.row_factor == (w_type == INTACT_U8 ? 128 : 0) - weight_zero_point);

  // Sums of the layer as its file describes it: sum (a - za) (w - zw) + bias, which is (sum - correction) + bias'.
  int32_t corrections[MAX_ROWS];
  const intact_const_matrix a = a_matrix();
  CHECK_OK(intact_row_sums(&a, layer.row_factor, corrections));
  for (intact_rounding rounding = INTACT_ROUND_FLOAT32; rounding <= INTACT_ROUND_DOUBLE; ++rounding) {
    for (intact_type y_type = INTACT_U8; y_type <= INTACT_S8; ++y_type) {
      for (int clamped = 0; clamped < 2; ++clamped) {
        const int zero_point = y_type == INTACT_U8 ? 100 : -28;
        intact_compat_stage stage = {rounding, zero_point, 0, 0, layer.row_factor == 0 ? NULL : corrections};
        if (clamped) {
          const intact_scale y_scale = {spec.output_scale, zero_point, NULL, 0};
          CHECK_OK(intact_fused_activation(&y_scale, 0, 6, y_type, &stage.low, &stage.high));
          CHECK(stage.low == zero_point && stage.high == zero_point + 19);  // round(6 / 0.31)
        }
        intact_product product = product_to(y_type);
        product.weights = layer.weights;
        CHECK_OK(intact_gemm_compat(&product, &layer, &stage, NULL));
        int64_t low, high;
        limits_of(y_type, &low, &high);
        low = clamped ? stage.low : low;
        high = clamped ? stage.high : high;
        for (ptrdiff_t m = 0; m < p.rows; ++m) {
          for (ptrdiff_t n = 0; n < p.channels; ++n) {
            int64_t real_sum = bias[n];
            for (ptrdiff_t k = 0; k < p.depth; ++k) {
              const uint8_t byte = p.stored[n * p.depth + k];
              const int w = w_type == INTACT_U8 ? byte : (int8_t)byte;
              real_sum += (int64_t)(code_of_a(m, k) - input_zero_point) * (w - weight_zero_point);
            }
            const int64_t expected = rounded_as(rounding, &layer, real_sum - layer.bias[n], n) + zero_point;
            CHECK(output_at(y_type, m * (p.channels + 1) + n) == clamp(expected, low, high));
          }
        }
      }
    }
  }
  // The factor, to the bit.
  for (ptrdiff_t n = 0; n < p.channels; ++n) {
    const float of_weights = spec.weight_scales == 1 ? weight_scale[0] : weight_scale[n];
    volatile float product = spec.input.scale;
    product *= of_weights;
    volatile float quotient = product;
    quotient /= spec.output_scale;
    CHECK(layer.factor[n] == quotient);
    const double real = rule == INTACT_FACTOR_FLOAT32 ? (double)quotient
                        : rule == INTACT_FACTOR_TFLITE_PER_TENSOR
                            ? (double)product / (double)spec.output_scale
                            : (double)spec.input.scale * (double)of_weights / (double)spec.output_scale;
    int exponent;
    const double mantissa = frexp(real, &exponent);
    CHECK(layer.exponent[n] == exponent && layer.multiplier[n] == (int32_t)llround(ldexp(mantissa, 31)));
  }
  free_odd(memory);
  free_problem();
}

/// Float between layers.
static void check_float(intact_type code_type) {
  enum { ROWS = 5, DEPTH = 37, CHANNELS = 20 };
  float x[ROWS * DEPTH], scale[ROWS], channel_scale[CHANNELS], bias[CHANNELS], y[ROWS * CHANNELS];
  uint8_t codes[ROWS * DEPTH];
  int32_t offset[CHANNELS];
  const int zero_point = code_type == INTACT_U8 ? 128 : 0;
  for (int i = 0; i < ROWS * DEPTH; ++i) {
    x[i] = (float)((int)(next_number() % 2001) - 1000) / 300.0f;
  }
  memset(x + 2 * DEPTH, 0, DEPTH * sizeof *x);  // a row of zeros
  const intact_const_matrix real = {x, ROWS, DEPTH, DEPTH, INTACT_F32};
  const intact_matrix code_matrix = {codes, ROWS, DEPTH, DEPTH, code_type};
  CHECK_OK(intact_quantize_rows(&real, &code_matrix, scale, NULL));
  for (int m = 0; m < ROWS; ++m) {
    float largest = 0;
    for (int k = 0; k < DEPTH; ++k) {
      largest = fabsf(x[m * DEPTH + k]) > largest ? fabsf(x[m * DEPTH + k]) : largest;
    }
    CHECK(scale[m] == largest / 127);
    for (int k = 0; k < DEPTH; ++k) {
      volatile float inverse = largest == 0 ? 0 : 127 / largest;
      volatile float quotient = x[m * DEPTH + k] * inverse;
      const int code = (int)rintf(quotient) + zero_point;
      CHECK((code_type == INTACT_U8 ? codes[m * DEPTH + k] : (int8_t)codes[m * DEPTH + k]) == code);
    }
  }

  int8_t w[CHANNELS * DEPTH];
  for (int n = 0; n < CHANNELS; ++n) {
    offset[n] = 0;
    for (int k = 0; k < DEPTH; ++k) {
      w[n * DEPTH + k] = (int8_t)next_number();
      offset[n] -= zero_point * w[n * DEPTH + k];
    }
    channel_scale[n] = 0.001f * (float)(n + 1);
    bias[n] = 0.5f * (float)(n - 8);
  }
  const intact_weights weights = {{w, CHANNELS, DEPTH, DEPTH, INTACT_S8}, {NULL, 0, 0, 0, 0}, 0};
  size_t bytes;
  CHECK_OK(intact_packed_weights_bytes(&weights, &bytes));
  void* const memory = allocate_odd(bytes);
  const intact_packed_weights* packed;
  CHECK_OK(intact_pack_weights(&weights, memory, bytes, &packed));
  uint16_t upper[ROWS * CHANNELS];
  for (int with_bias = 0; with_bias < 2; ++with_bias) {
    const intact_float_stage stage = {scale, channel_scale, with_bias ? bias : NULL, offset};
    intact_product product = {
        {codes, ROWS, DEPTH, DEPTH, code_type}, packed, {y, ROWS, CHANNELS, CHANNELS, INTACT_F32}};
    CHECK_OK(intact_gemm_float(&product, &stage, NULL));
    const intact_matrix upper_halves = {upper, ROWS, CHANNELS, CHANNELS, INTACT_BF16};
    product.y = upper_halves;
    CHECK_OK(intact_gemm_float(&product, &stage, NULL));
    for (int m = 0; m < ROWS; ++m) {
      for (int n = 0; n < CHANNELS; ++n) {
        int32_t sum = 0;
        for (int k = 0; k < DEPTH; ++k) {
          const int code = code_type == INTACT_U8 ? codes[m * DEPTH + k] : (int8_t)codes[m * DEPTH + k];
          sum += (code - zero_point) * w[n * DEPTH + k];
        }
        volatile float expected = (float)sum;
        expected *= scale[m];
        expected *= channel_scale[n];
        if (with_bias) {
          expected += bias[n];
        }
        CHECK(y[m * CHANNELS + n] == expected);
        uint32_t bits;
        memcpy(&bits, &y[m * CHANNELS + n], sizeof bits);
        CHECK(upper[m * CHANNELS + n] == (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16));
      }
    }
  }
  free_odd(memory);
}

/// Codes of real numbers, and back.
static void check_quantize(void) {
  intact_scale scale;
  CHECK_OK(intact_scale_of_range(-1, 4, INTACT_U8, &scale));
  CHECK(scale.scale == 5.0f / 255 && scale.zero_point == 51 && scale.shift == NULL);
  const float x[] = {-2, -1, 0, 0.01f, 1, 2.5f, 4, 5};
  static const uint8_t shift[] = {0, 1, 2, 3};
  for (int with_shifts = 0; with_shifts < 2; ++with_shifts) {
    scale.shift = with_shifts ? shift : NULL;
    scale.channels = with_shifts ? 4 : 0;
    uint8_t codes[8];
    float back[8];
    const intact_const_matrix real = {x, 2, 4, 4, INTACT_F32};
    const intact_matrix to = {codes, 2, 4, 4, INTACT_U8};
    CHECK_OK(intact_quantize(&real, &scale, &to));
    const intact_const_matrix from = {codes, 2, 4, 4, INTACT_U8};
    const intact_matrix to_real = {back, 2, 4, 4, INTACT_F32};
    CHECK_OK(intact_dequantize(&from, &scale, &to_real));
    for (int i = 0; i < 8; ++i) {
      const float step = scale.scale * (float)(with_shifts ? 1 << shift[i % 4] : 1);
      const float code = rintf(x[i] / step + (float)scale.zero_point);
      CHECK((float)codes[i] == (code < 0 ? 0 : code > 255 ? 255 : code));
      CHECK(back[i] == (float)(codes[i] - scale.zero_point) * step);
    }
  }
  const float w[] = {0.5f, -1, 0.25f, 0, 3, 2};
  int8_t s8[6];
  uint8_t s4[4];
  float w_scale[2];
  const intact_const_matrix float_weights = {w, 2, 3, 3, INTACT_F32};
  const intact_matrix to_s8 = {s8, 2, 3, 3, INTACT_S8}, to_s4 = {s4, 2, 3, 4, INTACT_S4};
  CHECK_OK(intact_quantize_weights(&float_weights, &to_s8, w_scale));
  CHECK(w_scale[0] == 1 / 127.5f && w_scale[1] == 3 / 127.5f);
  for (int i = 0; i < 6; ++i) {
    const float code = rintf(w[i] / w_scale[i / 3]);
    CHECK((float)s8[i] == (code > 127 ? 127 : code));
  }
  CHECK_OK(intact_quantize_weights(&float_weights, &to_s4, w_scale));
  for (int i = 0; i < 6; ++i) {
    const float code = rintf(w[i] / w_scale[i / 3]);
    const int nibble = s4[i / 3 * 2 + i % 3 / 2] >> (i % 3 % 2 * 4) & 15;
    CHECK((float)((nibble ^ 8) - 8) == (code > 7 ? 7 : code));
  }
}

/// Every mistake is a status and a message.
static void check_refusals(void) {
  make_problem(2, 3, 4, INTACT_U8, -1);
  intact_product product = product_to(INTACT_S32);
  CHECK_REFUSED(intact_gemm(NULL, NULL), "intact_gemm: product is NULL; it must not be");
  product.weights = NULL;
  CHECK_REFUSED(intact_gemm(&product, NULL), "intact_gemm: weights is NULL; it must not be");
  product.weights = p.packed;
  product.y.type = INTACT_F32;
  CHECK_REFUSED(intact_gemm(&product, NULL), "intact_gemm: type of y is 6; it must be INTACT_S32");
  product.y.type = INTACT_S32;
  product.a.type = 0;
  CHECK_REFUSED(intact_gemm(&product, NULL), "intact_gemm: type of a is 0; it must be INTACT_U8 or INTACT_S8");
  product.a.type = INTACT_U8;
  product.a.columns = 3;
  CHECK_REFUSED(intact_gemm(&product, NULL), "intact::gemm: columns of w is 4; it must be equal to 3");
  product.a.columns = 4;
  product.a.data = NULL;
  CHECK(intact_gemm(&product, NULL) == INTACT_INVALID_ARGUMENT);
  product = product_to(INTACT_S32);
  CHECK_OK(intact_gemm(&product, NULL));
  CHECK(strstr(intact_error_message(), "no data") != NULL);  // of the last failure

  size_t bytes;
  CHECK_OK(intact_packed_weights_bytes(&p.weights, &bytes));
  const intact_packed_weights* packed = p.packed;
  void* const memory = malloc(bytes);
  CHECK(intact_pack_weights(&p.weights, memory, 63, &packed) == INTACT_INVALID_ARGUMENT && packed == NULL);
  CHECK_REFUSED(intact_pack_weights(&p.weights, NULL, bytes, &packed),
                "intact_pack_weights: memory is NULL; it must not be");
  intact_weights grouped = p.weights;
  grouped.group = 8;
  CHECK_REFUSED(intact_pack_weights(&grouped, memory, bytes, &packed),
                "intact_pack_weights: group of weights is 8; it must be 0, or of INTACT_S4 at least 0");
  intact_weights negative = p.weights;
  negative.codes.rows = -1;
  CHECK_REFUSED(intact_packed_weights_bytes(&negative, &bytes),
                "intact::pack_weights: rows of w is -1; it must be at least 0");
  intact_weights endless = p.weights;
  endless.codes.rows = endless.codes.columns = PTRDIFF_MAX;
  CHECK_OK(intact_packed_weights_bytes(&endless, &bytes));
  CHECK(bytes == SIZE_MAX);  // no memory has as many
  free(memory);

  intact_channel_scale scale = {multipliers, offsets, 2, 0, 0};
  CHECK_REFUSED(intact_gemm_requantize(&product, &scale, NULL),
                "intact::gemm: size of scale.multiplier is 2; it must be equal to 3");
  scale.channels = -1;
  CHECK_REFUSED(intact_gemm_requantize(&product, &scale, NULL),
                "intact_gemm_requantize: size of multiplier is -1; it must be at least 0");
  scale.channels = 3;
  scale.offset = NULL;
  CHECK_REFUSED(intact_gemm_requantize(&product, &scale, NULL),
                "intact_gemm_requantize: offset is NULL; it must not be");
  scale.offset = offsets;
  scale.shift = 31;
  CHECK_REFUSED(intact_gemm_requantize(&product, &scale, NULL),
                "intact::gemm: scale.shift is 31; it must be at most 30");
  free_problem();

  make_problem(2, 3, 8, INTACT_U8, 8);
  product = product_to(INTACT_U8);
  const intact_compat_layer layer = {p.packed, 3, multipliers, multipliers, multipliers, NULL, 1};
  const intact_compat_stage stage = {INTACT_ROUND_SINGLE, 0, 0, 0, multipliers};
  CHECK_REFUSED(intact_gemm_compat(&product, &layer, &stage, NULL),
                "intact_gemm_compat: row_correction is given; weights must be INTACT_S8 then");
  const intact_compat_stage unknown = {4, 0, 0, 0, NULL}, wide = {INTACT_ROUND_SINGLE, 0, 0, 256, NULL};
  CHECK_REFUSED(intact_gemm_compat(&product, &layer, &unknown, NULL),
                "intact_gemm_compat: rounding is 4; it must be in 0..3");
  CHECK_REFUSED(intact_gemm_compat(&product, &layer, &wide, NULL),
                "intact_gemm_compat: codes are clamped to 0..256; the output's are 0..255");
  free_problem();

  const float infinite = INFINITY;
  const intact_const_matrix x = {&infinite, 1, 1, 1, INTACT_F32};
  uint8_t code = 3;
  float row_scale;
  const intact_matrix codes = {&code, 1, 1, 1, INTACT_U8};
  CHECK_REFUSED(intact_quantize_rows(&x, &codes, &row_scale, NULL),
                "intact::quantize_rows: x has the value inf at row 0, column 0; it must be finite");
  CHECK(code == 3);
}

int main(void) {
  CHECK(strcmp(intact_error_message(), "") == 0);
  int32_t major = -1, minor = -1, patch = -1;
  CHECK_OK(intact_version(&major, &minor, &patch));
  CHECK(major >= 0 && minor >= 0 && patch >= 0);
  CHECK_REFUSED(intact_version(&major, NULL, &patch), "intact_version: minor is NULL; it must not be");
  const char* isa = NULL;
  CHECK_OK(intact_isa_name(&isa));
  CHECK(isa != NULL && *isa != 0);

  check_products();
  check_extremes();
  check_executor();
  check_compat(INTACT_S8, 0, INTACT_FACTOR_FLOAT32);
  check_compat(INTACT_S8, -3, INTACT_FACTOR_TFLITE_PER_CHANNEL);
  check_compat(INTACT_U8, 128, INTACT_FACTOR_TFLITE_PER_TENSOR);
  check_compat(INTACT_U8, 7, INTACT_FACTOR_FLOAT32);
  check_float(INTACT_U8);
  check_float(INTACT_S8);
  check_quantize();
  check_refusals();
  printf("products on %s: as expected\n", isa);
  return 0;
}
