// Wherever the heap has no memory left, a call ends with a status, and has written nothing. For glibc, whose malloc this
// program replaces.

#include "check.h"

extern void* __libc_malloc(size_t bytes);

static long calls_until_failure = -1;  ///< below 0: none fails

void* malloc(size_t bytes) {
  if (calls_until_failure == 0) {
    return NULL;
  }
  calls_until_failure -= calls_until_failure > 0 ? 1 : 0;
  return __libc_malloc(bytes);
}

/// Lets the first allocation of a call fail, and all after it; then the second, and so on until there is none.
#define CHECK_EACH_ALLOCATION(call, nothing_written)         \
  do {                                                       \
    long first = 0;                                          \
    for (;; ++first) {                                       \
      calls_until_failure = first;                           \
      const intact_status status = (call);                   \
      calls_until_failure = -1;                              \
      if (status == INTACT_OK) {                             \
        break;                                               \
      }                                                      \
      CHECK(status == INTACT_OUT_OF_MEMORY);                 \
      CHECK(strstr(intact_error_message(), "heap") != NULL); \
      CHECK(nothing_written);                                \
    }                                                        \
    printf("%ld allocations: %s\n", first, #call);           \
    allocations += first;                                    \
  } while (0)

int main(void) {
  enum { CHANNELS = 5, DEPTH = 9, ROWS = 4 };
  static const float w[CHANNELS * DEPTH] = {1, 2, -3};
  static uint8_t a[ROWS * DEPTH];
  int8_t codes[CHANNELS * DEPTH];
  float w_scale[CHANNELS];
  double factor[CHANNELS] = {0.1, 0.2, 0.1, 0.2, 0.3}, addend[CHANNELS] = {0};
  int32_t multiplier[CHANNELS] = {-1};
  int64_t offset[CHANNELS];
  long allocations = 0;
  const char* isa;
  CHECK_OK(intact_isa_name(&isa));

  const intact_const_matrix real = {w, CHANNELS, DEPTH, DEPTH, INTACT_F32};
  const intact_matrix to = {codes, CHANNELS, DEPTH, DEPTH, INTACT_S8};
  w_scale[0] = -1;
  CHECK_EACH_ALLOCATION(intact_quantize_weights(&real, &to, w_scale), w_scale[0] == -1);
  const intact_weights weights = {{codes, CHANNELS, DEPTH, DEPTH, INTACT_S8}, {NULL, 0, 0, 0, 0}, 0};
  const intact_linear_spec spec = {&weights, factor, addend, 7, INTACT_U8};
  intact_channel_scale scale;
  CHECK_EACH_ALLOCATION(intact_build_linear(&spec, multiplier, offset, &scale), multiplier[0] == -1);

  const intact_compat_spec compat = {{codes, CHANNELS, DEPTH, DEPTH, INTACT_S8},
                                     0,
                                     w_scale,
                                     CHANNELS,
                                     NULL,
                                     {0.1f, 3, NULL, 0},
                                     0.2f,
                                     INTACT_FACTOR_FLOAT32};
  size_t bytes;
  CHECK_OK(intact_compat_layer_bytes(CHANNELS, DEPTH, &bytes));
  void* const memory = malloc(bytes);
  intact_compat_layer layer = {NULL, 0, NULL, NULL, NULL, NULL, 0};
  CHECK_EACH_ALLOCATION(intact_build_compat(&compat, memory, bytes, &layer), layer.weights == NULL);
  CHECK(allocations > 10);

  // Running allocates nothing.
  int32_t y[ROWS * CHANNELS];
  const intact_product product = {
      {a, ROWS, DEPTH, DEPTH, INTACT_U8}, layer.weights, {y, ROWS, CHANNELS, CHANNELS, INTACT_S32}};
  allocations = 0;
  CHECK_EACH_ALLOCATION(intact_gemm(&product, NULL), 0);
  CHECK(allocations == 0);

  // A refusal without memory for its message is still a status.
  calls_until_failure = 0;
  const intact_status status = intact_gemm(NULL, NULL);
  calls_until_failure = -1;
  CHECK(status == INTACT_OUT_OF_MEMORY || status == INTACT_INVALID_ARGUMENT);
  free(memory);
  printf("allocations: as expected\n");
  return 0;
}
