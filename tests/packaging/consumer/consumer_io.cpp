// intact::io reads a model file without Eigen, and the model runs.

#include <intact/build/packed_vit.hpp>
#include <intact/io/model_file.hpp>
#include <intact/model/vit.hpp>
#include <intact/reference/model/vit.hpp>

#include <algorithm>
#include <nlohmann/json_fwd.hpp>

#include "consumer_model.hpp"

static_assert(NLOHMANN_JSON_VERSION_MAJOR >= 3);

bool model_is_right() {
  const intact::packed_vit model(intact::load_integer_vit(CONSUMER_MODEL_FILE));
  const intact::vit_shape& shape = model.shape();
  const std::vector<std::uint8_t> samples(static_cast<std::size_t>(shape.channels * shape.height * shape.image_width));
  const intact::image_view image =
      intact::planar_image(samples.data(), shape.channels, shape.height, shape.image_width);
  std::vector<std::byte> memory(
      std::max(intact::vit_workspace_bytes(shape), intact::reference::vit_workspace_bytes(shape)));
  const intact::workspace workspace(memory.data(), memory.size());

  const auto classes = static_cast<std::size_t>(shape.classes);
  std::vector<std::int32_t> logits(classes), expected(classes);
  std::vector<std::uint8_t> logits_u8(classes), expected_u8(classes);
  intact::vit({&image, 1}, model.parameters(), shape,
              {.logits = {logits.data(), 1, shape.classes}, .logits_u8 = {logits_u8.data(), 1, shape.classes}},
              workspace);
  intact::reference::vit(
      image, model.parameters(), shape,
      {.logits = {expected.data(), 1, shape.classes}, .logits_u8 = {expected_u8.data(), 1, shape.classes}}, workspace);
  return classes != 0 && logits == expected && logits_u8 == expected_u8;
}
