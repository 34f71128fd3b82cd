// Blocks from float weights through the C interface: two in a row are close to the float blocks, and every executor gives
// the same codes. block_reference_test.cpp compares codes with the specification.

#include <math.h>

#include "check.h"

enum { TOKENS = 17, WIDTH = 48, HEADS = 3, HIDDEN = 96, BATCH = 3, ROWS = BATCH * TOKENS, BLOCKS = 2 };

typedef struct layer {
  float weight[3 * WIDTH * HIDDEN], bias[3 * HIDDEN];
} layer;

static layer qkv[BLOCKS], proj[BLOCKS], fc1[BLOCKS], fc2[BLOCKS];
static float norm_weight[WIDTH], norm_bias[WIDTH];
static float input[ROWS * WIDTH], stream[ROWS * WIDTH], result[ROWS * WIDTH];

/// Of a bell-shaped distribution with the deviation 1.
static float random_float(void) {
  double sum = 0;
  for (int i = 0; i < 12; ++i) {
    sum += (double)next_number() / 2147483648.0;
  }
  return (float)(sum - 6);
}

static intact_float_linear make_layer(layer* to, int outputs, int inputs) {
  for (int i = 0; i < outputs * inputs; ++i) {
    to->weight[i] = random_float() / sqrtf((float)inputs);
  }
  for (int i = 0; i < outputs; ++i) {
    to->bias[i] = 0.2f * random_float();
  }
  const intact_float_linear view = {to->weight, to->bias};
  return view;
}

static intact_float_block blocks[BLOCKS];

static void make_blocks(void) {
  for (int c = 0; c < WIDTH; ++c) {
    norm_weight[c] = 1 + 0.1f * random_float();
    norm_bias[c] = 0.1f * random_float();
  }
  const intact_float_norm norm = {norm_weight, norm_bias};
  for (int i = 0; i < BLOCKS; ++i) {
    const intact_float_block block = {{TOKENS, WIDTH, HEADS, HIDDEN},
                                      norm,
                                      make_layer(&qkv[i], 3 * WIDTH, WIDTH),
                                      make_layer(&proj[i], WIDTH, WIDTH),
                                      norm,
                                      make_layer(&fc1[i], HIDDEN, WIDTH),
                                      make_layer(&fc2[i], WIDTH, HIDDEN),
                                      1e-6f,
                                      INTACT_GELU,
                                      i};
    blocks[i] = block;
  }
  for (int i = 0; i < ROWS * WIDTH; ++i) {
    input[i] = random_float();
  }
}

/// A recipe, and how far its results may be from those in float32: of the values' deviation.
typedef struct block_case {
  intact_recipe recipe;
  double tolerance;
} block_case;

static void check_blocks(const block_case* c) {
  const int is_s16 = c->recipe.s16_stream;
  const intact_matrix float_stream = {stream, ROWS, WIDTH, WIDTH, INTACT_F32};
  memcpy(stream, input, sizeof stream);
  intact_range ranges[3][WIDTH];
  intact_block_scales* scales[BLOCKS];
  for (int i = 0; i < BLOCKS; ++i) {
    intact_block_ranges observed;
    observed.stream = ranges[0];
    observed.add1 = ranges[1];
    observed.add2 = ranges[2];
    CHECK_OK(intact_observe_block(&blocks[i], &float_stream, &observed));
    CHECK(observed.width == WIDTH && observed.norm1.low < observed.norm1.high);
    CHECK_OK(intact_calibrate_block(&observed, &c->recipe, &scales[i]));
  }

  // One scale for all blocks on an s16 stream: the largest that any of them needs.
  if (is_s16) {
    ptrdiff_t raised = 1;
    intact_scale scale, own;
    CHECK_OK(intact_block_stream_scale(scales[0], INTACT_STREAM_ENTERS, &scale));
    float largest = 0;
    while (raised != 0) {
      raised = 0;
      for (int i = 0; i < BLOCKS; ++i) {
        ptrdiff_t here;
        CHECK_OK(intact_fit_block_scales(&blocks[i], scales[i], &c->recipe, &here));
        CHECK_OK(intact_block_stream_scale(scales[i], INTACT_STREAM_ENTERS, &own));
        largest = own.scale > largest ? own.scale : largest;
      }
      for (int i = 0; i < BLOCKS; ++i) {
        CHECK_OK(intact_block_stream_scale(scales[i], INTACT_STREAM_ENTERS, &own));
        raised += own.scale != largest;
        own.scale = largest;
        CHECK_OK(intact_set_block_stream_scale(scales[i], &own));
      }
    }
  }

  const intact_block* built[BLOCKS];
  void* memory[BLOCKS];
  size_t bytes, most = 0;
  ptrdiff_t count = 0;
  const intact_executor run = {3, run_backwards, &count};
  for (int i = 0; i < BLOCKS; ++i) {
    if (i > 0 && !is_s16) {
      intact_scale entering;
      CHECK_OK(intact_block_stream_scale(scales[i - 1], INTACT_STREAM_LEAVES, &entering));
      CHECK_OK(intact_set_block_stream_scale(scales[i], &entering));
    }
    CHECK_OK(intact_block_bytes(&blocks[i].shape, &c->recipe, &bytes));
    memory[i] = allocate_odd(bytes);
    const intact_workspace place = {memory[i], bytes}, small = {memory[i], bytes - 64};
    CHECK(intact_build_block(&blocks[i], scales[i], &c->recipe, &small, &built[i]) == INTACT_INVALID_ARGUMENT);
    CHECK(built[i] == NULL);
    CHECK_OK(intact_build_block(&blocks[i], scales[i], &c->recipe, &place, &built[i]));
    CHECK_OK(intact_block_workspace_bytes(built[i], BATCH, run.threads, &bytes));
    most = bytes > most ? bytes : most;
  }

  // Run both on codes of the input, twice.
  static int16_t codes[2][ROWS * WIDTH];
  const intact_type type = is_s16 ? INTACT_S16 : INTACT_U8;
  const intact_workspace workspace = {allocate_odd(most), most};
  intact_scale enters, leaves;
  CHECK_OK(intact_block_stream_scale(scales[0], INTACT_STREAM_ENTERS, &enters));
  CHECK_OK(intact_block_stream_scale(scales[BLOCKS - 1], INTACT_STREAM_LEAVES, &leaves));
  const intact_const_matrix real_input = {input, ROWS, WIDTH, WIDTH, INTACT_F32};
  memset(codes, 0, sizeof codes);
  for (int k = 0; k < 2; ++k) {
    const intact_matrix code_stream = {codes[k], ROWS, WIDTH, WIDTH, type};
    CHECK_OK(intact_quantize(&real_input, &enters, &code_stream));
    for (int i = 0; i < BLOCKS; ++i) {
      CHECK_OK(intact_run_block(built[i], &code_stream, &workspace, k == 0 ? NULL : &run));
    }
    const intact_matrix of_other_type = {codes[k], ROWS, WIDTH, WIDTH, is_s16 ? INTACT_U8 : INTACT_S16};
    CHECK(intact_run_block(built[0], &of_other_type, &workspace, NULL) == INTACT_INVALID_ARGUMENT);
    const intact_matrix cut = {codes[k], ROWS - 1, WIDTH, WIDTH, type};
    CHECK(intact_run_block(built[0], &cut, &workspace, NULL) == INTACT_INVALID_ARGUMENT);
  }
  CHECK(memcmp(codes[0], codes[1], sizeof codes[0]) == 0 && count > 3);

  const intact_const_matrix code_result = {codes[0], ROWS, WIDTH, WIDTH, type};
  const intact_matrix real_result = {result, ROWS, WIDTH, WIDTH, INTACT_F32};
  CHECK_OK(intact_dequantize(&code_result, &leaves, &real_result));
  double error = 0, size = 0;
  for (int i = 0; i < ROWS * WIDTH; ++i) {
    error += pow((double)result[i] - (double)stream[i], 2);
    size += pow((double)stream[i], 2);
  }
  printf("error %.4f of the deviation, at most %.2f\n", sqrt(error / size), c->tolerance);
  CHECK(sqrt(error / size) < c->tolerance);
  for (int i = 0; i < BLOCKS; ++i) {
    free_odd(memory[i]);
    CHECK_OK(intact_free_block_scales(scales[i]));
  }
  free_odd(workspace.memory);
}

static void check_refusals(void) {
  intact_range ranges[3][WIDTH];
  intact_block_ranges observed;
  observed.stream = ranges[0];
  observed.add1 = ranges[1];
  observed.add2 = ranges[2];
  const intact_matrix float_stream = {stream, ROWS, WIDTH, WIDTH, INTACT_F32};
  intact_float_block block = blocks[1];
  block.fc1.weight = NULL;
  CHECK_REFUSED(intact_observe_block(&block, &float_stream, &observed),
                "intact_observe_block: fc1 is NULL; it must not be");
  block = blocks[1];
  block.shape.width = -1;
  CHECK(intact_observe_block(&block, &float_stream, &observed) == INTACT_INVALID_ARGUMENT);
  block = blocks[1];
  block.activation = 6;
  CHECK_REFUSED(intact_observe_block(&block, &float_stream, &observed),
                "intact_observe_block: activation is 6; it must be in 0..5");
  const float saved = fc2[1].bias[3];
  fc2[1].bias[3] = NAN;
  CHECK_REFUSED(
      intact_observe_block(&blocks[1], &float_stream, &observed),
      "intact::observe_block: tensor fc2.bias of block 1 has the value nan at row 0, column 3; it must be finite");
  fc2[1].bias[3] = saved;
  observed.add1 = NULL;
  CHECK_REFUSED(intact_observe_block(&blocks[1], &float_stream, &observed),
                "intact_observe_block: add1 is NULL; it must not be");
  size_t bytes = 7;
  const intact_block_shape none = {TOKENS, WIDTH, 0, HIDDEN};
  const intact_recipe recipe = {.attention = INTACT_LOG2_OF_SUM}, five = {.weight_bits = 5};
  CHECK_REFUSED(intact_block_bytes(&none, &recipe, &bytes), "intact::block: heads is 0; it must be at least 1");
  CHECK_REFUSED(intact_block_bytes(&blocks[0].shape, &five, &bytes),
                "intact_block_bytes: weight_bits is 5; it must be 4 or 8");
  CHECK(bytes == 7);
  const intact_block_shape endless = {PTRDIFF_MAX, PTRDIFF_MAX, 1, PTRDIFF_MAX};
  CHECK_OK(intact_block_bytes(&endless, &recipe, &bytes));
  CHECK(bytes == SIZE_MAX);
  CHECK_OK(intact_free_block_scales(NULL));
}

int main(void) {
  static const block_case cases[] = {{{.attention = INTACT_LOG2_OF_SUM}, 0.2},
                                     {{.probabilities = INTACT_CODE_U8_FULL}, 0.2},
                                     {{.attention = INTACT_LOG2_OF_MAX,
                                       .exponential = INTACT_EXACT_EXP,
                                       .rounding = INTACT_ROUND_LOG,
                                       .normalize_rows = 1,
                                       .s16_stream = 1},
                                      0.1},
                                     {{.attention = INTACT_WEIGHTS,
                                       .exponential = INTACT_EXACT_EXP,
                                       .rounding = INTACT_ROUND_LOG,
                                       .normalize_rows = 1,
                                       .s16_stream = 1},
                                      0.05},
                                     {{.attention = INTACT_WEIGHTS,
                                       .exponential = INTACT_EXACT_EXP,
                                       .rounding = INTACT_ROUND_LOG,
                                       .normalize_rows = 1,
                                       .s16_stream = 1,
                                       .weight_bits = 4,
                                       .weight_group = 16},
                                      0.3},
                                     {{.weight_bits = 4}, 0.4}};
  make_blocks();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    check_blocks(&cases[i]);
  }
  check_refusals();
  printf("blocks: as expected\n");
  return 0;
}
