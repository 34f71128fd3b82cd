// Vision transformers and their blocks, of every recipe and of small sizes.

#include <cstddef>
#include <cstdint>
#include <limits>

#include "fuzz_input.hpp"
#include "guarded_memory.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/model/block.hpp"
#include "intact/reference/model/block.hpp"
#include "model_runs.hpp"

namespace intact_test {
namespace {

template <class Code>
void check_blocks(fuzz_input& input, const packed_vit& model, generator& random) {
  const model_run how = some_run(input);
  const block_shape shape = model.shape().block();
  const index_t tokens = shape.attention.tokens;
  guarded_tensor<Code> stream(how.batch * tokens, shape.attention.width);
  fill(stream.view(), how.contents, std::numeric_limits<Code>::min(), std::numeric_limits<Code>::max(), random);
  const reversed_executor run{.at_a_time = how.threads};
  for (const block_parameters& p : model.parameters().blocks) {
    guarded_tensor<Code> expected = stream;
    exact_workspace specified(reference::block_workspace_bytes(shape), how.misaligned);
    for (index_t image = 0; image < how.batch; ++image) {
      reference::block(expected.view().row_block(image * tokens, tokens), p, shape, specified.get());
    }
    exact_workspace scratch(block_workspace_bytes(shape, how.batch, how.threads), how.misaligned);
    block<tested_isa>(stream.view(), p, shape, scratch.get(), executor_ref(run));
    expect_equal("block:", stream.view(), expected.view());
  }
}

void check(fuzz_input& input) {
  const model_recipe recipe = some_recipe(input);
  generator random = input.random();
  const auto seed = static_cast<std::uint64_t>(random.between(0, 1 << 30));
  const packed_vit model(integer_vit(model_builder(recipe, seed).model()));
  recipe.parts.stream == stream_codes::u8 ? check_blocks<std::uint8_t>(input, model, random)
                                          : check_blocks<std::int16_t>(input, model, random);
  check_model(model, some_run(input), random);
}

}  // namespace
}  // namespace intact_test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  intact_test::fuzz_input input(bytes, size);
  intact_test::check(input);
  return 0;
}
