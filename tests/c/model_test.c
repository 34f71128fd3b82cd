// Models in files through the C interface: model_test <folder of stored models>. Their logits have the hashes that
// tests/io/stored_models_test.cpp has recorded.

#include "check.h"

enum { IMAGES = 8, CLASSES = 3 };

static uint64_t hash;

static void add_byte(uint32_t byte) {
  hash = (hash ^ byte) * 0x100000001b3u;
}

/// Eight images of one channel, four of them nearly gray.
static void make_images(ptrdiff_t pixels, uint8_t* samples) {
  for (ptrdiff_t i = 0; i < IMAGES; ++i) {
    for (ptrdiff_t k = 0; k < pixels; ++k) {
      samples[i * pixels + k] = (uint8_t)(i < 4 ? 113 + (7 * i + 3 * k * k) % 5 : (37 * i + 11 * k * k + k) % 256);
    }
  }
}

static void check_model(const intact_model* model, uint64_t expected, const intact_executor* run) {
  intact_model_info info;
  CHECK_OK(intact_describe_model(model, &info));
  CHECK(info.channels == 1 && info.classes == CLASSES);
  CHECK(info.logits_scale > 0);
  const ptrdiff_t pixels = info.height * info.width;
  uint8_t* const samples = malloc((size_t)(IMAGES * pixels));
  make_images(pixels, samples);
  intact_image image[IMAGES];
  for (int i = 0; i < IMAGES; ++i) {
    const intact_image one = {samples + i * pixels, 1, info.height, info.width, pixels, info.width, 1};
    image[i] = one;
  }
  const intact_images images = {image, IMAGES};
  size_t bytes;
  CHECK_OK(intact_model_workspace_bytes(model, IMAGES, run == NULL ? 1 : run->threads, &bytes));
  const intact_workspace workspace = {allocate_odd(bytes), bytes};
  int32_t s32[IMAGES * CLASSES];
  uint8_t u8[IMAGES * CLASSES];
  const intact_logits logits = {{s32, IMAGES, CLASSES, CLASSES, INTACT_S32}, {u8, IMAGES, CLASSES, CLASSES, INTACT_U8}};
  CHECK_OK(intact_run_model(model, &images, &logits, &workspace, run));
  hash = 0xcbf29ce484222325u;
  for (int i = 0; i < IMAGES; ++i) {
    for (int c = 0; c < CLASSES; ++c) {
      for (int shift = 0; shift < 32; shift += 8) {
        add_byte((uint32_t)s32[i * CLASSES + c] >> shift & 255);
      }
    }
    for (int c = 0; c < CLASSES; ++c) {
      add_byte(u8[i * CLASSES + c]);
    }
  }
  CHECK(hash == expected);

  // Mistakes.
  const intact_workspace small = {workspace.memory, bytes / 2};
  CHECK(intact_run_model(model, &images, &logits, &small, run) == INTACT_INVALID_ARGUMENT);
  intact_logits other = logits;
  other.s32.columns = 2;
  CHECK(intact_run_model(model, &images, &other, &workspace, run) == INTACT_INVALID_ARGUMENT);
  CHECK(strstr(intact_error_message(), "logits is 8 x 2; it must be 8 x 3") != NULL);
  image[3].height = 5;
  CHECK(intact_run_model(model, &images, &logits, &workspace, run) == INTACT_INVALID_ARGUMENT);
  CHECK(strstr(intact_error_message(), "image height is 5; it must be equal to") != NULL);
  image[3].height = info.height;
  const intact_images none = {NULL, 1};
  CHECK_REFUSED(intact_run_model(model, &none, &logits, &workspace, run),
                "intact_run_model: image is NULL; it must not be");

  if (info.kind == INTACT_VIT) {
    uint8_t* const features = malloc((size_t)(IMAGES * info.features));
    const intact_matrix y = {features, IMAGES, info.features, info.features, INTACT_U8};
    CHECK_OK(intact_model_features(model, &images, &y, &workspace, run));
    // A batch has the features of its images.
    uint8_t* const alone = malloc((size_t)info.features);
    for (int i = 0; i < IMAGES; ++i) {
      const intact_images one = {image + i, 1};
      const intact_matrix own = {alone, 1, info.features, info.features, INTACT_U8};
      CHECK_OK(intact_model_features(model, &one, &own, &workspace, run));
      CHECK(memcmp(alone, features + i * info.features, (size_t)info.features) == 0);
    }
    free(alone);
    free(features);
  } else {
    CHECK(intact_model_features(model, &images, &logits.u8, &workspace, run) == INTACT_INVALID_ARGUMENT);
  }
  free_odd(workspace.memory);
  free(samples);
}

/// A file's bytes.
static size_t read_file(const char* path, void** data) {
  FILE* const file = fopen(path, "rb");
  CHECK(file != NULL);
  CHECK(fseek(file, 0, SEEK_END) == 0);
  const long size = ftell(file);
  CHECK(size > 0);
  rewind(file);
  *data = malloc((size_t)size);
  CHECK(fread(*data, 1, (size_t)size, file) == (size_t)size);
  fclose(file);
  return (size_t)size;
}

static void check_file(const char* folder, const char* name, uint64_t expected) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
  intact_model* model = NULL;
  CHECK_OK(intact_load_model(path, &model));
  check_model(model, expected, NULL);
  ptrdiff_t count = 0;
  const intact_executor run = {3, run_backwards, &count};
  check_model(model, expected, &run);
  CHECK(count > 3);
  CHECK_OK(intact_free_model(model));

  void* data;
  const size_t bytes = read_file(path, &data);
  CHECK_OK(intact_load_model_from_memory(data, bytes, "stored", &model));
  check_model(model, expected, NULL);
  CHECK_OK(intact_free_model(model));
  // Files that are cut off or changed end with a message.
  for (size_t cut = 0; cut < bytes; cut += 97) {
    CHECK(intact_load_model_from_memory(data, cut, "cut", &model) == INTACT_FILE_ERROR && model == NULL);
    CHECK(strncmp(intact_error_message(), "cut: ", 5) == 0);
  }
  for (size_t at = 8; at < 2000; at += 7) {
    char* const byte = (char*)data + at;
    const char before = *byte;
    *byte = (char)(before ^ (1 << at % 8));
    const intact_status status = intact_load_model_from_memory(data, bytes, "changed", &model);
    CHECK(status == INTACT_OK || (status == INTACT_FILE_ERROR && model == NULL));
    CHECK_OK(intact_free_model(model));
    *byte = before;
  }
  free(data);
}

int main(int count, char** arguments) {
  CHECK(count == 2);
  intact_model* model = NULL;
  const intact_status status = intact_load_model_from_memory("x", 1, "a byte", &model);
  if (status == INTACT_NOT_BUILT) {
    CHECK(strstr(intact_error_message(), "INTACT_IO") != NULL);
    printf("models: left out of this library\n");
    return 0;
  }
  CHECK(status == INTACT_FILE_ERROR && model == NULL);
  check_file(arguments[1], "vit_version_1", 0xb034caf87c99bc5du);
  check_file(arguments[1], "vit_version_2", 0x7aae4606fd3e88e3u);
  check_file(arguments[1], "swin_version_1", 0x4c8afac1d05a2a2fu);
  check_file(arguments[1], "swin_version_2", 0x368184593cc0c854u);
  CHECK(intact_load_model("/nowhere/model.safetensors", &model) == INTACT_FILE_ERROR && model == NULL);
  CHECK(strcmp(intact_error_message(), "/nowhere/model.safetensors: the file does not exist") == 0);
  CHECK_REFUSED(intact_load_model(NULL, &model), "intact_load_model: path is NULL; it must not be");
  CHECK_OK(intact_free_model(NULL));
  CHECK_REFUSED(intact_describe_model(NULL, NULL), "intact_describe_model: model is NULL; it must not be");
  printf("models: as expected\n");
  return 0;
}
