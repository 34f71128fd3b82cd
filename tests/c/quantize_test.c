// An integer model of float tensors through the C interface: quantize_test <file to write>. Its logits are close to those
// of the float model in plain C, and the file that is written has the same model.

#include <math.h>

#include "check.h"

enum {
  SIDE = 12,
  PATCH = 4,
  GRID = SIDE / PATCH,
  CHANNELS = 2,
  SAMPLES = CHANNELS * PATCH * PATCH,
  TOKENS = GRID * GRID + 1,
  WIDTH = 32,
  HEADS = 2,
  SIZE = WIDTH / HEADS,
  HIDDEN = 64,
  DEPTH = 2,
  CLASSES = 5,
  IMAGES = 12,
  TENSORS = 8 + 12 * DEPTH
};

static const float mean[CHANNELS] = {0.4f, 0.5f}, deviation[CHANNELS] = {0.2f, 0.3f};
static const float epsilon = 1e-5f;

static float numbers[100000];
static float* next_numbers = numbers;

/// Of a bell-shaped distribution around a center.
static float* random_floats(ptrdiff_t count, double spread, double center) {
  float* const first = next_numbers;
  CHECK(first + count <= numbers + sizeof numbers / sizeof *numbers);
  for (ptrdiff_t i = 0; i < count; ++i) {
    double sum = -6;
    for (int k = 0; k < 12; ++k) {
      sum += (double)next_number() / 2147483648.0;
    }
    first[i] = (float)(center + spread * sum);
  }
  next_numbers += count;
  return first;
}

typedef struct linear {
  float *weight, *bias;
  ptrdiff_t outputs, inputs;
} linear;

typedef struct norm {
  float *weight, *bias;
} norm;

static struct {
  linear patch, head;
  float *class_token, *positions;
  norm last;
  struct {
    norm norm1, norm2;
    linear qkv, proj, fc1, fc2;
  } block[DEPTH];
} model;

static intact_tensor tensors[TENSORS];
static char names[TENSORS][128];
static ptrdiff_t shapes[TENSORS][4];
static ptrdiff_t tensor_count = 0;

static void add_tensor(const char* prefix, const char* name, const float* data, const ptrdiff_t* shape) {
  ptrdiff_t dimensions = 0;
  for (; dimensions < 4 && shape[dimensions] != 0; ++dimensions) {
    shapes[tensor_count][dimensions] = shape[dimensions];
  }
  snprintf(names[tensor_count], sizeof names[tensor_count], "%s%s", prefix, name);
  const intact_tensor tensor = {names[tensor_count], INTACT_F32, shapes[tensor_count], dimensions, data};
  tensors[tensor_count++] = tensor;
}

static linear make_linear(const char* prefix, const char* name, ptrdiff_t outputs, ptrdiff_t inputs) {
  const linear made = {random_floats(outputs * inputs, 1 / sqrt((double)inputs), 0), random_floats(outputs, 0.2, 0),
                       outputs, inputs};
  char text[64];
  snprintf(text, sizeof text, "%s.weight", name);
  const ptrdiff_t shape[4] = {outputs, inputs, 0, 0}, of_patch[4] = {outputs, CHANNELS, PATCH, PATCH},
                  of_bias[4] = {outputs, 0, 0, 0};
  add_tensor(prefix, text, made.weight, inputs == SAMPLES && outputs == WIDTH && *prefix == 0 ? of_patch : shape);
  snprintf(text, sizeof text, "%s.bias", name);
  add_tensor(prefix, text, made.bias, of_bias);
  return made;
}

static norm make_norm(const char* prefix, const char* name) {
  const norm made = {random_floats(WIDTH, 0.1, 1), random_floats(WIDTH, 0.1, 0)};
  const ptrdiff_t shape[4] = {WIDTH, 0, 0, 0};
  char text[64];
  snprintf(text, sizeof text, "%s.weight", name);
  add_tensor(prefix, text, made.weight, shape);
  snprintf(text, sizeof text, "%s.bias", name);
  add_tensor(prefix, text, made.bias, shape);
  return made;
}

static void make_model(void) {
  const ptrdiff_t of_token[4] = {1, 1, WIDTH, 0}, of_positions[4] = {1, TOKENS, WIDTH, 0};
  model.patch = make_linear("", "patch_embed.proj", WIDTH, SAMPLES);
  model.class_token = random_floats(WIDTH, 0.5, 0);
  model.positions = random_floats(TOKENS * WIDTH, 0.5, 0);
  add_tensor("", "cls_token", model.class_token, of_token);
  add_tensor("", "pos_embed", model.positions, of_positions);
  for (int i = 0; i < DEPTH; ++i) {
    char prefix[32];
    snprintf(prefix, sizeof prefix, "blocks.%d.", i);
    model.block[i].norm1 = make_norm(prefix, "norm1");
    model.block[i].qkv = make_linear(prefix, "attn.qkv", 3 * WIDTH, WIDTH);
    model.block[i].proj = make_linear(prefix, "attn.proj", WIDTH, WIDTH);
    model.block[i].norm2 = make_norm(prefix, "norm2");
    model.block[i].fc1 = make_linear(prefix, "mlp.fc1", HIDDEN, WIDTH);
    model.block[i].fc2 = make_linear(prefix, "mlp.fc2", WIDTH, HIDDEN);
  }
  model.last = make_norm("", "norm");
  model.head = make_linear("", "head", CLASSES, WIDTH);
  CHECK(tensor_count == TENSORS);
}

// The float model.

static void apply_linear(const linear* layer, const double* x, double* y) {
  for (ptrdiff_t n = 0; n < layer->outputs; ++n) {
    y[n] = (double)layer->bias[n];
    for (ptrdiff_t k = 0; k < layer->inputs; ++k) {
      y[n] += x[k] * (double)layer->weight[n * layer->inputs + k];
    }
  }
}

static void apply_norm(const norm* layer, const double* x, double* y) {
  double sum = 0, squares = 0;
  for (int c = 0; c < WIDTH; ++c) {
    sum += x[c] / WIDTH;
  }
  for (int c = 0; c < WIDTH; ++c) {
    squares += (x[c] - sum) * (x[c] - sum) / WIDTH;
  }
  for (int c = 0; c < WIDTH; ++c) {
    y[c] = (x[c] - sum) / sqrt(squares + (double)epsilon) * (double)layer->weight[c] + (double)layer->bias[c];
  }
}

static void attend(double qkv[TOKENS][3 * WIDTH], double context[TOKENS][WIDTH]) {
  for (int i = 0; i < TOKENS; ++i) {
    for (int h = 0; h < HEADS; ++h) {
      double weight[TOKENS], sum = 0;
      for (int j = 0; j < TOKENS; ++j) {
        double logit = 0;
        for (int c = h * SIZE; c < (h + 1) * SIZE; ++c) {
          logit += qkv[i][c] * qkv[j][WIDTH + c] / sqrt((double)SIZE);
        }
        weight[j] = exp(logit);
        sum += weight[j];
      }
      for (int c = h * SIZE; c < (h + 1) * SIZE; ++c) {
        context[i][c] = 0;
        for (int j = 0; j < TOKENS; ++j) {
          context[i][c] += weight[j] / sum * qkv[j][2 * WIDTH + c];
        }
      }
    }
  }
}

static void classify(const uint8_t* image, double* logits) {
  static double x[TOKENS][WIDTH], qkv[TOKENS][3 * WIDTH], context[TOKENS][WIDTH];
  double normalized[WIDTH], branch[WIDTH], hidden[HIDDEN], samples[SAMPLES];
  for (int t = 0; t < TOKENS; ++t) {
    if (t == 0) {
      for (int c = 0; c < WIDTH; ++c) {
        x[t][c] = (double)model.class_token[c];
      }
    } else {
      const int row = (t - 1) / GRID * PATCH, column = (t - 1) % GRID * PATCH;
      for (int k = 0; k < SAMPLES; ++k) {
        const int channel = k / (PATCH * PATCH), at = k % (PATCH * PATCH);
        const int pixel = image[(channel * SIDE + row + at / PATCH) * SIDE + column + at % PATCH];
        samples[k] = (pixel / 255.0 - (double)mean[channel]) / (double)deviation[channel];
      }
      apply_linear(&model.patch, samples, x[t]);
    }
    for (int c = 0; c < WIDTH; ++c) {
      x[t][c] += (double)model.positions[t * WIDTH + c];
    }
  }
  for (int i = 0; i < DEPTH; ++i) {
    for (int t = 0; t < TOKENS; ++t) {
      apply_norm(&model.block[i].norm1, x[t], normalized);
      apply_linear(&model.block[i].qkv, normalized, qkv[t]);
    }
    attend(qkv, context);
    for (int t = 0; t < TOKENS; ++t) {
      apply_linear(&model.block[i].proj, context[t], branch);
      for (int c = 0; c < WIDTH; ++c) {
        x[t][c] += branch[c];
      }
      apply_norm(&model.block[i].norm2, x[t], normalized);
      apply_linear(&model.block[i].fc1, normalized, hidden);
      for (int k = 0; k < HIDDEN; ++k) {
        hidden[k] = 0.5 * hidden[k] * (1 + erf(hidden[k] / sqrt(2.0)));
      }
      apply_linear(&model.block[i].fc2, hidden, branch);
      for (int c = 0; c < WIDTH; ++c) {
        x[t][c] += branch[c];
      }
    }
  }
  apply_norm(&model.last, x[0], normalized);
  apply_linear(&model.head, normalized, logits);
}

static uint8_t pixels[IMAGES][CHANNELS * SIDE * SIDE];
static intact_image image[IMAGES];
static const intact_images images = {image, IMAGES};

/// The logits of all images, in units of the float model's.
static void run_model(const intact_model* integer, double logits[IMAGES][CLASSES]) {
  intact_model_info info;
  CHECK_OK(intact_describe_model(integer, &info));
  CHECK(info.kind == INTACT_VIT && info.channels == CHANNELS && info.height == SIDE && info.width == SIDE);
  CHECK(info.classes == CLASSES && info.features == WIDTH);
  size_t bytes;
  CHECK_OK(intact_model_workspace_bytes(integer, IMAGES, 1, &bytes));
  const intact_workspace workspace = {malloc(bytes), bytes};
  int32_t s32[IMAGES][CLASSES];
  uint8_t u8[IMAGES][CLASSES];
  const intact_logits outputs = {{s32, IMAGES, CLASSES, CLASSES, INTACT_S32},
                                 {u8, IMAGES, CLASSES, CLASSES, INTACT_U8}};
  CHECK_OK(intact_run_model(integer, &images, &outputs, &workspace, NULL));
  for (int i = 0; i < IMAGES; ++i) {
    for (int c = 0; c < CLASSES; ++c) {
      logits[i][c] = s32[i][c] * info.logits_scale;
    }
  }
  free(workspace.memory);
}

/// A recipe, and how far its logits may be from the float model's: of their deviation.
static void check_recipe(const intact_recipe* recipe, double tolerance, const char* path) {
  const intact_checkpoint checkpoint = {tensors, TENSORS, HEADS, epsilon, mean, deviation, CHANNELS, INTACT_GELU};
  intact_model* integer = NULL;
  CHECK_OK(intact_quantize_vit(&checkpoint, &images, recipe, path, &integer));
  double logits[IMAGES][CLASSES], of_file[IMAGES][CLASSES];
  run_model(integer, logits);
  CHECK_OK(intact_free_model(integer));
  double error = 0, size = 0;
  for (int i = 0; i < IMAGES; ++i) {
    double real[CLASSES];
    classify(pixels[i], real);
    for (int c = 0; c < CLASSES; ++c) {
      error += pow(logits[i][c] - real[c], 2);
      size += pow(real[c], 2);
    }
  }
  printf("error %.4f of the deviation, at most %.2f\n", sqrt(error / size), tolerance);
  CHECK(sqrt(error / size) < tolerance);
  CHECK_OK(intact_load_model(path, &integer));
  run_model(integer, of_file);
  CHECK(memcmp(logits, of_file, sizeof logits) == 0);
  CHECK_OK(intact_free_model(integer));
}

static void check_refusals(void) {
  const intact_recipe recipe = {.attention = INTACT_LOG2_OF_SUM};
  intact_checkpoint checkpoint = {tensors, TENSORS - 1, HEADS, epsilon, mean, deviation, CHANNELS, INTACT_GELU};
  intact_model* integer = NULL;
  CHECK(intact_quantize_vit(&checkpoint, &images, &recipe, NULL, &integer) == INTACT_FILE_ERROR && integer == NULL);
  CHECK(strstr(intact_error_message(), "head.bias") != NULL);
  checkpoint.count = TENSORS;
  const intact_images none = {NULL, 0};
  CHECK_REFUSED(intact_quantize_vit(&checkpoint, &none, &recipe, NULL, &integer),
                "intact::calibrate: number of images is 0; it must be at least 1");
  CHECK(intact_quantize_vit(&checkpoint, &images, &recipe, "/nowhere/model", &integer) == INTACT_FILE_ERROR);
  CHECK(integer == NULL);
  const float saved = model.head.weight[3];
  model.head.weight[3] = NAN;
  CHECK(intact_quantize_vit(&checkpoint, &images, &recipe, NULL, &integer) != INTACT_OK && integer == NULL);
  model.head.weight[3] = saved;
  tensors[2].data = NULL;
  CHECK_REFUSED(intact_quantize_vit(&checkpoint, &images, &recipe, NULL, &integer),
                "intact_quantize_vit: cls_token is NULL; it must not be");
  shapes[2][0] = -1;
  CHECK_REFUSED(intact_quantize_vit(&checkpoint, &images, &recipe, NULL, &integer),
                "intact_quantize_vit: tensor cls_token has a size below 0 or too many elements");
}

int main(int count, char** arguments) {
  static const intact_recipe paper = {.attention = INTACT_LOG2_OF_SUM}, precise = {.attention = INTACT_WEIGHTS,
                                                                                   .exponential = INTACT_EXACT_EXP,
                                                                                   .rounding = INTACT_ROUND_LOG,
                                                                                   .normalize_rows = 1,
                                                                                   .s16_stream = 1,
                                                                                   .pixel_codes = 1};
  CHECK(count == 2);
  make_model();
  for (int i = 0; i < IMAGES; ++i) {
    for (int k = 0; k < CHANNELS * SIDE * SIDE; ++k) {
      pixels[i][k] = (uint8_t)next_number();
    }
    const intact_image view = {pixels[i], CHANNELS, SIDE, SIDE, SIDE * SIDE, SIDE, 1};
    image[i] = view;
  }
  const intact_checkpoint checkpoint = {tensors, TENSORS, HEADS, epsilon, mean, deviation, CHANNELS, INTACT_GELU};
  intact_model* integer = NULL;
  if (intact_quantize_vit(&checkpoint, &images, &paper, NULL, &integer) == INTACT_NOT_BUILT) {
    printf("quantization: left out of this library\n");
    return 0;
  }
  CHECK_OK(intact_free_model(integer));
  check_recipe(&paper, 0.3, arguments[1]);
  check_recipe(&precise, 0.1, arguments[1]);
  check_refusals();
  printf("quantization: as expected\n");
  return 0;
}
