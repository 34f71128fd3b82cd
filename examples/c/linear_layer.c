// A linear layer from float weights in C99: its integers and packed weights when the model is loaded, its codes when it
// runs, with two threads of the program's.

#define _POSIX_C_SOURCE 200112L
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "intact/c/intact.h"

enum { TOKENS = 197, INPUTS = 192, OUTPUTS = 768 };

static float x[TOKENS * INPUTS], w[OUTPUTS * INPUTS], bias[OUTPUTS];
static uint8_t x_codes[TOKENS * INPUTS], y_codes[TOKENS * OUTPUTS];
static int8_t w_codes[OUTPUTS * INPUTS];
static float w_scale[OUTPUTS];
static double factor[OUTPUTS], addend[OUTPUTS];
static int32_t multiplier[OUTPUTS];
static int64_t offset[OUTPUTS];

static void require(intact_status status) {
  if (status != INTACT_OK) {
    fprintf(stderr, "%s\n", intact_error_message());
    exit(1);
  }
}

static void fill(float* values, int count, double largest) {
  static uint32_t state = 1;
  for (int i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    values[i] = (float)(largest * ((double)(state >> 8) / 8388608 - 1));
  }
}

// An executor: two threads take turns. An engine has a pool here.
struct half {
  intact_task task;
  const void* argument;
  ptrdiff_t tasks;
};

static void* run_half(void* argument) {
  const struct half* const mine = argument;
  for (ptrdiff_t i = 1; i < mine->tasks; i += 2) {
    mine->task(mine->argument, i);
  }
  return NULL;
}

static void for_each(void* context, ptrdiff_t tasks, intact_task task, const void* argument) {
  struct half half = {task, argument, tasks};
  pthread_t other;
  const int failed = pthread_create(&other, NULL, run_half, &half);
  if (failed) {
    run_half(&half);
  }
  for (ptrdiff_t i = 0; i < tasks; i += 2) {
    task(argument, i);
  }
  if (!failed) {
    pthread_join(other, NULL);
  }
  (void)context;
}

int main(void) {
  fill(x, TOKENS * INPUTS, 3);
  fill(w, OUTPUTS * INPUTS, 0.1);
  fill(bias, OUTPUTS, 1);
  // Of ranges that the tensors have taken on calibration data.
  intact_scale x_scale, y_scale;
  require(intact_scale_of_range(-3, 3, INTACT_U8, &x_scale));
  require(intact_scale_of_range(-4, 4, INTACT_U8, &y_scale));

  // When the model is loaded: s8 weights with a scale per channel, the integers of the output stage, packed weights.
  const intact_const_matrix float_weights = {w, OUTPUTS, INPUTS, INPUTS, INTACT_F32};
  const intact_matrix codes = {w_codes, OUTPUTS, INPUTS, INPUTS, INTACT_S8};
  require(intact_quantize_weights(&float_weights, &codes, w_scale));
  for (int n = 0; n < OUTPUTS; ++n) {
    factor[n] = (double)x_scale.scale * (double)w_scale[n] / (double)y_scale.scale;
    addend[n] = (double)bias[n] / (double)y_scale.scale + y_scale.zero_point;
  }
  const intact_weights weights = {.codes = {w_codes, OUTPUTS, INPUTS, INPUTS, INTACT_S8}};
  const intact_linear_spec spec = {
      .weights = &weights, .factor = factor, .addend = addend, .zero_point = x_scale.zero_point, .input = INTACT_U8};
  intact_channel_scale scale;
  require(intact_build_linear(&spec, multiplier, offset, &scale));
  size_t bytes;
  require(intact_packed_weights_bytes(&weights, &bytes));
  void* const memory = malloc(bytes);
  const intact_packed_weights* packed;
  require(intact_pack_weights(&weights, memory, bytes, &packed));

  // When it runs. Codes of a layer before it need no quantization.
  const intact_const_matrix input = {x, TOKENS, INPUTS, INPUTS, INTACT_F32};
  const intact_matrix input_codes = {x_codes, TOKENS, INPUTS, INPUTS, INTACT_U8};
  require(intact_quantize(&input, &x_scale, &input_codes));
  const intact_executor threads = {.threads = 2, .for_each = for_each};
  const intact_product product = {.a = {x_codes, TOKENS, INPUTS, INPUTS, INTACT_U8},
                                  .weights = packed,
                                  .y = {y_codes, TOKENS, OUTPUTS, OUTPUTS, INTACT_U8}};
  require(intact_gemm_requantize(&product, &scale, &threads));

  // The same layer of the same codes in real numbers.
  int different = 0;
  for (int t = 0; t < TOKENS; ++t) {
    for (int n = 0; n < OUTPUTS; ++n) {
      int64_t sum = 0;
      for (int k = 0; k < INPUTS; ++k) {
        sum += (int64_t)(x_codes[t * INPUTS + k] - x_scale.zero_point) * w_codes[n * INPUTS + k];
      }
      const double real = round(factor[n] * (double)sum + addend[n]);
      different += y_codes[t * OUTPUTS + n] != (real < 0 ? 0 : real > 255 ? 255 : real);
    }
  }
  printf("%d of %d codes differ from real numbers, rounded\n", different, TOKENS * OUTPUTS);
  free(memory);
  return 0;
}
