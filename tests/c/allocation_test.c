// Wherever the heap has no memory left, a call ends with a status, and has written nothing; what runs often asks for no
// memory: allocation_test <a stored model>. For glibc, whose malloc this program replaces.

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
    printf("%ld allocations: %.60s\n", first, #call);        \
    allocations += first;                                    \
  } while (0)

static long allocations = 0;

static void check_products(void) {
  enum { CHANNELS = 5, DEPTH = 9, ROWS = 4 };
  static const float w[CHANNELS * DEPTH] = {1, 2, -3};
  static uint8_t a[ROWS * DEPTH];
  int8_t codes[CHANNELS * DEPTH];
  float w_scale[CHANNELS];
  double factor[CHANNELS] = {0.1, 0.2, 0.1, 0.2, 0.3}, addend[CHANNELS] = {0};
  int32_t multiplier[CHANNELS] = {-1};
  int64_t offset[CHANNELS];
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
}

static void check_block(void) {
  enum { TOKENS = 3, WIDTH = 8, ROWS = 2 * TOKENS };
  static float weight[3 * WIDTH * WIDTH], one[3 * WIDTH], input[ROWS * WIDTH], stream[ROWS * WIDTH];
  for (size_t i = 0; i < sizeof weight / sizeof *weight; ++i) {
    weight[i] = (float)(next_number() % 2001) / 2000 - 0.5f;
  }
  for (int i = 0; i < 3 * WIDTH; ++i) {
    one[i] = 1;
  }
  for (int i = 0; i < ROWS * WIDTH; ++i) {
    input[i] = (float)(next_number() % 2001) / 500 - 2;
  }
  const intact_float_linear layer = {weight, one};
  const intact_float_norm norm = {one, one};
  const intact_float_block block = {
      {TOKENS, WIDTH, 2, WIDTH}, norm, layer, layer, norm, layer, layer, 1e-6f, INTACT_GELU, 0};
  const intact_recipe recipe = {.attention = INTACT_LOG2_OF_SUM};
  intact_range ranges[3][WIDTH];
  intact_block_ranges observed;
  observed.stream = ranges[0];
  observed.add1 = ranges[1];
  observed.add2 = ranges[2];
  const intact_matrix float_stream = {stream, ROWS, WIDTH, WIDTH, INTACT_F32};
  CHECK_EACH_ALLOCATION((memcpy(stream, input, sizeof stream), intact_observe_block(&block, &float_stream, &observed)),
                        1);
  intact_block_scales* scales = NULL;
  CHECK_EACH_ALLOCATION(intact_calibrate_block(&observed, &recipe, &scales), scales == NULL);
  size_t bytes;
  CHECK_OK(intact_block_bytes(&block.shape, &recipe, &bytes));
  const intact_workspace memory = {malloc(bytes), bytes};
  memset(memory.memory, 0x5a, bytes);
  const intact_block* built = NULL;
  CHECK_EACH_ALLOCATION(intact_build_block(&block, scales, &recipe, &memory, &built),
                        built == NULL && ((char*)memory.memory)[bytes / 2] == 0x5a);
  CHECK(allocations > 100);

  uint8_t codes[ROWS * WIDTH];
  intact_scale scale;
  CHECK_OK(intact_block_stream_scale(scales, INTACT_STREAM_ENTERS, &scale));
  const intact_const_matrix real = {input, ROWS, WIDTH, WIDTH, INTACT_F32};
  const intact_matrix code_stream = {codes, ROWS, WIDTH, WIDTH, INTACT_U8};
  CHECK_OK(intact_quantize(&real, &scale, &code_stream));
  CHECK_OK(intact_block_workspace_bytes(built, 2, 1, &bytes));
  const intact_workspace workspace = {malloc(bytes), bytes};
  allocations = 0;
  CHECK_EACH_ALLOCATION(intact_run_block(built, &code_stream, &workspace, NULL), 0);
  CHECK(allocations == 0);
  free(workspace.memory);
  free(memory.memory);
  CHECK_OK(intact_free_block_scales(scales));
}

static void check_model(const char* path) {
  static char data[100000];
  FILE* const file = fopen(path, "rb");
  CHECK(file != NULL);
  const size_t size = fread(data, 1, sizeof data, file);
  fclose(file);
  CHECK(size > 8 && size < sizeof data);
  intact_model* model = NULL;
  const intact_status status = intact_load_model_from_memory(data, size, "stored", &model);
  CHECK_OK(intact_free_model(model));
  if (status == INTACT_NOT_BUILT) {
    return;
  }
  allocations = 0;
  CHECK_EACH_ALLOCATION(intact_load_model_from_memory(data, size, "stored", &model), model == NULL);
  CHECK(allocations > 100);
  intact_model_info info;
  CHECK_OK(intact_describe_model(model, &info));
  const intact_image image = {(const uint8_t*)data, info.channels, info.height, info.width, 0, info.width, 1};
  const intact_images images = {&image, 1};
  int32_t s32[10];
  uint8_t u8[10];
  CHECK(info.classes <= 10 && info.channels == 1);
  const intact_logits logits = {{s32, 1, info.classes, info.classes, INTACT_S32},
                                {u8, 1, info.classes, info.classes, INTACT_U8}};
  size_t bytes;
  CHECK_OK(intact_model_workspace_bytes(model, 1, 1, &bytes));
  const intact_workspace workspace = {malloc(bytes), bytes};
  allocations = 0;
  CHECK_EACH_ALLOCATION(intact_run_model(model, &images, &logits, &workspace, NULL), 0);
  CHECK(allocations == 0);
  free(workspace.memory);
  CHECK_OK(intact_free_model(model));
}

int main(int count, char** arguments) {
  CHECK(count == 2);
  check_products();
  check_block();
  check_model(arguments[1]);
  printf("allocations: as expected\n");
  return 0;
}
