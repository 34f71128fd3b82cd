#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/io/model_file.hpp"
#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"
#include "intact/reference/model/swin.hpp"
#include "intact/reference/model/vit.hpp"
#include "scratch_folder.hpp"
#include "tensor.hpp"

// Files of every version of the format, in tests/io/data: they load, and their models compute what they always have.
// The hashes of version 1 are from the last commit that wrote it. In these models rows of LayerNorms are nearly
// constant, so that the fraction of epsilon, which version 2 added, changes logits.

namespace intact_test::stored_models_test {
namespace {

/// Hashes of logits.
constexpr std::uint64_t vit_version_1 = 0xb034caf87c99bc5d, vit_version_2 = 0x7aae4606fd3e88e3;
constexpr std::uint64_t swin_version_1 = 0x4c8afac1d05a2a2f, swin_version_2 = 0x368184593cc0c854;

std::filesystem::path stored(const std::string& name) {
  return std::filesystem::path(INTACT_STORED_MODELS) / (name + ".safetensors");
}

/// FNV-1a of 64 bits.
class hash {
 public:
  void add(std::uint8_t byte) { value_ = (value_ ^ byte) * 0x100000001b3; }
  void add(std::int32_t number) {
    for (int shift = 0; shift < 32; shift += 8) {
      add(static_cast<std::uint8_t>(static_cast<std::uint32_t>(number) >> shift));
    }
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325;
};

/// The logits of eight images of one channel, four of them nearly gray.
template <class Classify>
std::uint64_t hash_of_logits(index_t height, index_t width, const Classify& classify) {
  hash all;
  for (index_t i = 0; i < 8; ++i) {
    std::vector<std::uint8_t> samples;
    for (index_t k = 0; k < height * width; ++k) {
      samples.push_back(
          static_cast<std::uint8_t>(i < 4 ? 113 + (7 * i + 3 * k * k) % 5 : (37 * i + 11 * k * k + k) % 256));
    }
    std::array<std::int32_t, 3> logits{};
    std::array<std::uint8_t, 3> logits_u8{};
    classify(planar_image(samples.data(), 1, height, width), matrix_view(logits.data(), 1, 3),
             matrix_view(logits_u8.data(), 1, 3));
    for (const std::int32_t logit : logits) {
      all.add(logit);
    }
    for (const std::uint8_t logit : logits_u8) {
      all.add(logit);
    }
  }
  return all.value();
}

std::uint64_t hash_of(const integer_vit& model) {
  std::vector<std::byte> memory(reference::vit_workspace_bytes(model.shape()));
  return hash_of_logits(4, 4, [&](const image_view& x, const auto& logits, const auto& logits_u8) {
    reference::vit(x, packed_vit(model).parameters(), model.shape(), {logits, logits_u8},
                   workspace(memory.data(), memory.size()));
  });
}

std::uint64_t hash_of(const integer_swin& model) {
  std::vector<std::byte> memory(reference::swin_workspace_bytes(model.shape()));
  return hash_of_logits(4, 6, [&](const image_view& x, const auto& logits, const auto& logits_u8) {
    reference::swin(x, packed_swin(model).parameters(), model.shape(), {logits, logits_u8},
                    workspace(memory.data(), memory.size()));
  });
}

TEST_CASE("load_integer_vit: logits of stored models have the recorded hash [versions 1 and 2]", "[stored_models]") {
  const scratch_folder folder;
  const integer_vit first = load_integer_vit(stored("vit_version_1")),
                    second = load_integer_vit(stored("vit_version_2"));
  CHECK(hash_of(first) == vit_version_1);
  CHECK(hash_of(second) == vit_version_2);
  CHECK(first.tensors().blocks[0].norm1.epsilon_fraction == 0);
  CHECK(second.tensors().blocks[0].norm1.epsilon_fraction != 0);

  save_integer_vit(second, folder / "second");
  CHECK(file_contents(folder / "second") == file_contents(stored("vit_version_2")));
  save_integer_vit(first, folder / "first");
  const safetensors_file saved = safetensors_file::read(folder / "first");
  CHECK(saved.metadata_value("version") == "2");
  CHECK(saved.values<std::int64_t>("norm.epsilon_fraction", {}).front() == 0);
  CHECK(hash_of(load_integer_vit(saved)) == vit_version_1);
}

TEST_CASE("load_integer_swin: logits of stored models have the recorded hash [versions 1 and 2]", "[stored_models]") {
  const scratch_folder folder;
  const integer_swin first = load_integer_swin(stored("swin_version_1")),
                     second = load_integer_swin(stored("swin_version_2"));
  CHECK(hash_of(first) == swin_version_1);
  CHECK(hash_of(second) == swin_version_2);
  CHECK(first.tensors().patch_norm.epsilon_fraction == 0);
  CHECK(second.tensors().patch_norm.epsilon_fraction != 0);

  save_integer_swin(second, folder / "second");
  CHECK(file_contents(folder / "second") == file_contents(stored("swin_version_2")));
  save_integer_swin(first, folder / "first");
  CHECK(hash_of(load_integer_swin(folder / "first")) == swin_version_1);
}

}  // namespace
}  // namespace intact_test::stored_models_test
