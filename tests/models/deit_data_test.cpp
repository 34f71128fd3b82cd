// DeiT-Tiny on images, where they are at hand: every tensor of the integer model equals the evaluation in double
// precision, and the kernels give the specification's logits.

#include <dlfcn.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <span>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "deit/checkpoint.hpp"
#include "deit/image_folder.hpp"
#include "deit/model_input.hpp"
#include "deit_data_kernels.hpp"
#include "double_reference.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/reference/model/vit.hpp"
#include "intact/simd/detect.hpp"

namespace intact_test::deit_data_test {
namespace {

/// How many images: INTACT_DATA_IMAGES says so if two are not enough.
std::size_t image_count() {
  const char* const wanted = std::getenv("INTACT_DATA_IMAGES");
  return wanted == nullptr ? 2 : static_cast<std::size_t>(std::strtoul(wanted, nullptr, 10));
}

/// Names of the instruction sets that the test was built for and that the processor has; the others are reported.
std::vector<std::string> offered_isas() {
  const simd::processor processor = simd::detect();
  std::vector<std::string> names;
  std::istringstream built(INTACT_DEIT_DATA_ISAS);
  for (std::string name; built >> name;) {
    const auto offered = [&](auto... isas) { return ((name == isas.name && processor.offers(isas)) || ...); };
    if (std::apply(offered, isa::all{})) {
      names.push_back(name);
    } else {
      std::cout << "[intact: not compared] this processor does not have " << name << '\n';
    }
  }
  return names;
}

/// The first images of a folder.
std::vector<rgb_image> read_images(const std::filesystem::path& folder, std::size_t count) {
  std::vector<std::filesystem::path> files = intact_deit::find_images(folder);
  files.resize(std::min(files.size(), count));
  std::vector<rgb_image> images;
  for (const std::filesystem::path& file : files) {
    images.push_back(intact_deit::read_input(file, {{224, 0.875}}));
  }
  return images;
}

std::vector<image_view> views_of(std::span<const rgb_image> images) {
  std::vector<image_view> views;
  for (const rgb_image& image : images) {
    views.push_back(image.view());
  }
  return views;
}

/// The kernels of an instruction set.
vit_function kernels_of(const std::string& isa) {
  void* const library = dlopen((INTACT_DEIT_DATA_KERNELS "/deit_data_kernels_" + isa + ".so").c_str(), RTLD_NOW);
  if (library == nullptr) {
    FAIL(dlerror());
  }
  void* const function = dlsym(library, "intact_vit");
  if (function == nullptr) {
    FAIL(dlerror());
  }
  return reinterpret_cast<vit_function>(function);
}

/// The logits of the kernels, all images in one batch.
std::vector<std::int32_t> logits_of(vit_function run, const packed_vit& model, std::span<const image_view> images) {
  const index_t batch = std::ssize(images), classes = model.shape().classes;
  std::vector<std::int32_t> logits(static_cast<std::size_t>(batch * classes));
  std::vector<std::uint8_t> logits_u8(logits.size());
  std::vector<std::byte> scratch(vit_workspace_bytes(model.shape(), batch));
  const vit_parameters parameters = model.parameters();
  run({images,
       parameters,
       model.shape(),
       {matrix_view(logits.data(), batch, classes), matrix_view(logits_u8.data(), batch, classes)},
       workspace(scratch.data(), scratch.size())});
  return logits;
}

/// The logits of the specification, one image after the other.
std::vector<std::int32_t> specified_logits(const packed_vit& model, std::span<const image_view> images) {
  const index_t classes = model.shape().classes;
  std::vector<std::int32_t> logits(images.size() * static_cast<std::size_t>(classes));
  std::vector<std::uint8_t> logits_u8(static_cast<std::size_t>(classes));
  std::vector<std::byte> scratch(reference::vit_workspace_bytes(model.shape()));
  for (index_t i = 0; i < std::ssize(images); ++i) {
    reference::vit(images[static_cast<std::size_t>(i)], model.parameters(), model.shape(),
                   {matrix_view(logits.data() + i * classes, 1, classes), matrix_view(logits_u8.data(), 1, classes)},
                   workspace(scratch.data(), scratch.size()));
  }
  return logits;
}

/// Every tensor of every image.
void check_against_double(const integer_vit& model, std::span<const image_view> images) {
  const double_reference reference(model.tensors());
  std::int64_t compared = 0;
  for (const image_view& image : images) {
    const comparison outcome = compare_image(model, image, reference.evaluate(image));
    INFO("first mismatch: " << outcome.first_mismatch);
    CHECK(outcome.mismatched == 0);
    compared += outcome.compared;
  }
  std::cout << "[intact: compared] DeiT-Tiny on " << images.size() << " images: " << compared << " codes\n";
  CHECK(compared > 8'000'000 * std::ssize(images));
}

TEST_CASE("vit: DeiT-Tiny equals double precision, and kernels equal the specification [best instruction sets]",
          "[data]") {
  const char* const data = std::getenv("INTACT_DATA_DIR");
  if (data == nullptr) {
    report_skipped("INTACT_DATA_DIR names no folder of models and images");
    return;
  }
  const std::filesystem::path folder = std::filesystem::path(data) / "imagenet_like";
  const auto loaded = intact_deit::load_checkpoint(std::filesystem::path(data) / "deit_tiny/model.safetensors");
  const float_vit& model = std::get<intact::loaded_checkpoint>(loaded).model;
  const std::vector<rgb_image> calibration = read_images(folder / "calibration", 4);
  const std::vector<rgb_image> evaluation = read_images(folder / "evaluation", image_count());
  const vit_scales scales = calibrate(model, views_of(calibration));
  const std::vector<image_view> images = views_of(evaluation);
  const std::vector<std::string> isas = offered_isas();
  REQUIRE_FALSE(isas.empty());
  for (const quantization_recipe& recipe : {paper_recipe, precise_recipe}) {
    integer_vit integer = build_vit(model, scales, recipe);
    check_against_double(integer, images);
    const packed_vit packed(std::move(integer));
    const std::vector<std::int32_t> expected = specified_logits(packed, images);
    for (const std::string& isa : isas) {
      INFO(isa);
      CHECK(logits_of(kernels_of(isa), packed, images) == expected);
    }
  }
}

}  // namespace
}  // namespace intact_test::deit_data_test
