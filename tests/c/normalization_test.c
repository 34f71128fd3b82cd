// LayerNorm and RMSNorm through the C interface, against the formula in 64 bits and against real numbers.

#include <math.h>

#include "check.h"

enum { MAX_ROWS = 33, MAX_CHANNELS = 768 };

static uint8_t x_u8[MAX_ROWS * (MAX_CHANNELS + 1)], y[MAX_ROWS * (MAX_CHANNELS + 1)];
static int16_t x_s16[MAX_ROWS * (MAX_CHANNELS + 1)];
static float gamma_of[MAX_CHANNELS], beta_of[MAX_CHANNELS];
static uint8_t shift[MAX_CHANNELS];
static int32_t gain[MAX_CHANNELS];
static int64_t bias[MAX_CHANNELS];

/// floor(sqrt(x)), bit by bit.
static uint64_t square_root(uint64_t x) {
  uint64_t root = 0;
  for (uint64_t bit = (uint64_t)1 << 31; bit != 0; bit /= 2) {
    if ((root + bit) * (root + bit) <= x) {
      root += bit;
    }
  }
  return root;
}

/// A case: sizes, the type of the codes, and whether the mean is subtracted.
typedef struct norm_case {
  ptrdiff_t rows, channels;
  intact_type type;
  int is_rmsnorm;
} norm_case;

static int64_t input_at(const norm_case* c, const intact_norm* norm, ptrdiff_t row, ptrdiff_t channel) {
  const ptrdiff_t at = row * (c->channels + 1) + channel;
  const int64_t code = c->type == INTACT_U8 ? x_u8[at] : x_s16[at];
  return (code - norm->zero_point) * (1 << norm->shift[channel]);
}

/// The codes of a row by the formula of docs/numerics.md, section 4.
static void check_row(const norm_case* c, const intact_norm* norm, const intact_norm_spec* spec, ptrdiff_t row) {
  int64_t sum = 0, squares = 0;
  for (ptrdiff_t k = 0; k < c->channels; ++k) {
    const int64_t x = input_at(c, norm, row, k);
    sum += x;
    squares += x * x;
  }
  const double mean = c->is_rmsnorm ? 0 : (double)sum / (double)c->channels;
  sum = c->is_rmsnorm ? 0 : sum;
  const uint64_t spread = (uint64_t)(c->channels * squares - sum * sum);
  uint64_t v = spread + norm->epsilon;
  int f = 0;
  if (v < (uint64_t)1 << 20) {
    f = 30;
    const int64_t raised = (int64_t)(v << 30) + norm->epsilon_fraction;
    v = raised < (int64_t)1 << 30 ? (uint64_t)1 << 30 : (uint64_t)raised;
  }
  const int h = (bit_length(v) + 1) / 2 * 2;
  const uint64_t d = square_root(v << (62 - h));
  const int64_t r = (int64_t)((((uint64_t)1 << 61) - 1) / d);
  const int n = (h - f) / 2;
  const double deviation = sqrt((double)spread / (double)(c->channels * c->channels) +
                                spec->epsilon / (spec->input_scale * spec->input_scale));
  for (ptrdiff_t k = 0; k < c->channels; ++k) {
    const int64_t x = input_at(c, norm, row, k);
    const int64_t z = shifted_right((c->channels * x - sum) * r + ((int64_t)1 << (5 + n)), 6 + n);
    const int64_t code = clamp(shifted_right(z * norm->gain[k] + norm->bias[k], norm->output_shift), 0, 255);
    CHECK(y[row * (c->channels + 1) + k] == code);
    const double real = ((double)x - mean) / deviation * (double)spec->gamma[k] / spec->output_scale +
                        (spec->beta == NULL ? 0 : (double)spec->beta[k]) / spec->output_scale + spec->output_zero_point;
    CHECK(fabs((double)code - (real < 0 ? 0 : real > 255 ? 255 : real)) <= 1);
  }
}

static void fill(const norm_case* c) {
  for (ptrdiff_t m = 0; m < c->rows; ++m) {
    const int pattern = (int)(m % 4);
    for (ptrdiff_t k = 0; k < c->channels; ++k) {
      const ptrdiff_t at = m * (c->channels + 1) + k;
      const uint32_t number = next_number();
      // Random codes, a constant row, extremes, codes that differ by 1.
      x_u8[at] = (uint8_t)(pattern == 0   ? number
                           : pattern == 1 ? 77
                           : pattern == 2 ? (number % 2) * 255
                                          : 100 + number % 2);
      x_s16[at] = (int16_t)(pattern == 0   ? (int)(number % 65536) - 32768
                            : pattern == 1 ? -77
                            : pattern == 2 ? (number % 2 ? 32767 : -32768)
                                           : (int)(number % 2));
    }
  }
}

static void check_norm(norm_case c, const intact_executor* run) {
  for (ptrdiff_t k = 0; k < c.channels; ++k) {
    gamma_of[k] = 0.5f + (float)(next_number() % 1000) / 500.0f;
    beta_of[k] = (float)(next_number() % 1000) / 500.0f - 1.0f;
    shift[k] = (uint8_t)(next_number() % 4);
  }
  fill(&c);
  const intact_norm_spec spec = {c.channels,
                                 gamma_of,
                                 c.is_rmsnorm && c.channels % 2 == 0 ? NULL : beta_of,
                                 shift,
                                 1e-3,
                                 c.type == INTACT_U8 ? 0.02 : 0.0004,
                                 c.type == INTACT_U8 ? 121 : 0,
                                 0.05,
                                 131};
  intact_norm norm;
  CHECK_OK(c.is_rmsnorm ? intact_build_rmsnorm(&spec, gain, bias, &norm)
                        : intact_build_layernorm(&spec, gain, bias, &norm));
  const ptrdiff_t stride = c.channels + 1;
  const intact_const_matrix x = {c.type == INTACT_U8 ? (const void*)x_u8 : x_s16, c.rows, c.channels, stride, c.type};
  const intact_matrix to = {y, c.rows, c.channels, stride, INTACT_U8};
  memset(y, 0x5a, sizeof y);
  CHECK_OK(c.is_rmsnorm ? intact_rmsnorm(&x, &norm, &to, run) : intact_layernorm(&x, &norm, &to, run));
  for (ptrdiff_t m = 0; m < c.rows; ++m) {
    check_row(&c, &norm, &spec, m);
    CHECK(y[m * stride + c.channels] == 0x5a);
  }
  if (c.type == INTACT_U8 && c.channels != 0) {  // in place
    const intact_matrix same = {x_u8, c.rows, c.channels, stride, INTACT_U8};
    CHECK_OK(c.is_rmsnorm ? intact_rmsnorm(&x, &norm, &same, run) : intact_layernorm(&x, &norm, &same, run));
    for (ptrdiff_t m = 0; m < c.rows; ++m) {
      CHECK(memcmp(x_u8 + m * stride, y + m * stride, (size_t)c.channels) == 0);
    }
  }
}

static void check_refusals(void) {
  const float one = 1;
  const uint8_t zero = 0, high = 4;
  intact_norm norm = {0, NULL, NULL, NULL, 0, 0, 0, 0};
  intact_norm_spec spec = {1, &one, &one, &zero, 1e-6, 0.1, 3, 0.1, 4};
  spec.output_scale = 0;
  CHECK_REFUSED(intact_build_layernorm(&spec, gain, bias, &norm),
                "intact::build_layernorm: output_scale is 0; it must be above 0 and finite");
  CHECK(norm.channels == 0);
  spec.output_scale = 0.1;
  spec.beta = NULL;
  CHECK_REFUSED(intact_build_layernorm(&spec, gain, bias, &norm),
                "intact::build_layernorm: size of beta is 0; it must be equal to 1");
  spec.gamma = NULL;
  CHECK_REFUSED(intact_build_rmsnorm(&spec, gain, bias, &norm), "intact_build_rmsnorm: gamma is NULL; it must not be");
  spec.gamma = &one;
  CHECK_OK(intact_build_rmsnorm(&spec, gain, bias, &norm));
  uint8_t code = 9;
  const intact_const_matrix x = {&zero, 1, 1, 1, INTACT_U8};
  const intact_matrix to = {&code, 1, 1, 1, INTACT_U8};
  norm.shift = &high;
  CHECK_REFUSED(intact_layernorm(&x, &norm, &to, NULL),
                "intact::layernorm: shift of a channel is 4; it must be at most 3");
  norm.shift = &zero;
  norm.channels = 2;
  CHECK(intact_rmsnorm(&x, &norm, &to, NULL) == INTACT_INVALID_ARGUMENT);
  CHECK(code == 9);
}

int main(void) {
  static const ptrdiff_t sizes[][2] = {{5, 1}, {1, 2}, {8, 7}, {33, 64}, {9, 197}, {5, 768}, {0, 8}, {3, 0}};
  ptrdiff_t count = 0;
  const intact_executor run = {4, run_backwards, &count};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
    for (int kind = 0; kind < 2; ++kind) {
      const norm_case u8 = {sizes[s][0], sizes[s][1], INTACT_U8, kind},
                      s16 = {sizes[s][0], sizes[s][1], INTACT_S16, kind};
      check_norm(u8, NULL);
      check_norm(s16, NULL);
      check_norm(u8, &run);
      check_norm(s16, &run);
    }
  }
  CHECK(count > 4);
  check_refusals();
  printf("normalization: as expected\n");
  return 0;
}
