// Each thread has a message of its own, and threads share packed weights.

#define _POSIX_C_SOURCE 200112L
#include <pthread.h>

#include "check.h"

enum { ROWS = 30, CHANNELS = 70, DEPTH = 64, THREADS = 4 };

static uint8_t a[ROWS * DEPTH];
static int8_t w[CHANNELS * DEPTH];
static const intact_packed_weights* packed;

static void* use(void* argument) {
  CHECK(strcmp(intact_error_message(), "") == 0);
  int32_t y[ROWS * CHANNELS];
  for (int repetition = 0; repetition < 100; ++repetition) {
    const intact_product product = {
        {a, ROWS, DEPTH, DEPTH, INTACT_U8}, packed, {y, ROWS, CHANNELS, CHANNELS, INTACT_S32}};
    CHECK_OK(intact_gemm(&product, NULL));
    for (int m = 0; m < ROWS; ++m) {
      for (int n = 0; n < CHANNELS; ++n) {
        int64_t sum = 0;
        for (int k = 0; k < DEPTH; ++k) {
          sum += a[m * DEPTH + k] * w[n * DEPTH + k];
        }
        CHECK(y[m * CHANNELS + n] == sum);
      }
    }
    char expected[100];
    const int type = 100 + *(const int*)argument;
    intact_scale scale;
    snprintf(expected, sizeof expected, "intact_scale_of_range: type of codes is %d; it must be INTACT_U8 or INTACT_S8",
             type);
    CHECK_REFUSED(intact_scale_of_range(0, 1, type, &scale), expected);
  }
  return NULL;
}

int main(void) {
  for (size_t i = 0; i < sizeof a; ++i) {
    a[i] = (uint8_t)next_number();
  }
  for (size_t i = 0; i < sizeof w; ++i) {
    w[i] = (int8_t)next_number();
  }
  const intact_weights weights = {{w, CHANNELS, DEPTH, DEPTH, INTACT_S8}, {NULL, 0, 0, 0, 0}, 0};
  size_t bytes;
  CHECK_OK(intact_packed_weights_bytes(&weights, &bytes));
  void* const memory = malloc(bytes);
  CHECK_OK(intact_pack_weights(&weights, memory, bytes, &packed));
  pthread_t threads[THREADS];
  int numbers[THREADS];
  for (int i = 0; i < THREADS; ++i) {
    numbers[i] = i;
    CHECK(pthread_create(&threads[i], NULL, use, &numbers[i]) == 0);
  }
  for (int i = 0; i < THREADS; ++i) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  CHECK(strcmp(intact_error_message(), "") == 0);
  free(memory);
  printf("threads: as expected\n");
  return 0;
}
