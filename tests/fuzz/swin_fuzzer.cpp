// Swin transformers and their blocks, with every softmax and of small sizes.

#include <cstddef>
#include <cstdint>
#include <limits>

#include "fuzz_input.hpp"
#include "guarded_memory.hpp"
#include "intact/build/recipe.hpp"
#include "intact/model/swin_block.hpp"
#include "intact/reference/model/swin_block.hpp"
#include "model_runs.hpp"
#include "small_swin.hpp"

namespace intact_test {
namespace {

swin_shape some_shape(fuzz_input& input) {
  swin_shape shape;
  shape.channels = input.between(1, 3);
  shape.patch = input.between(1, 4);
  shape.height = input.between(1, 9) * shape.patch;
  shape.image_width = input.between(1, 9) * shape.patch;
  shape.stages = input.between(1, 3);
  for (index_t s = 0; s < shape.stages; ++s) {
    const index_t heads = input.between(1, 3);
    shape.stage[static_cast<std::size_t>(s)] = {.width = heads * input.between(1, 16),
                                                .heads = heads,
                                                .hidden = input.between(1, 40),
                                                .depth = input.between(0, 2),
                                                .window = input.between(1, 6)};
  }
  shape.classes = input.between(1, 9);
  shape.stream = input.flag() ? stream_codes::s16 : stream_codes::u8;
  return shape;
}

/// A choice of attention that a model of this shape may have: packed codes go without shifted windows, and the logits
/// of large heads do not fit into scales without room for the offsets of rows.
attention_choice some_choice(fuzz_input& input, const swin_shape& shape) {
  attention_choice choice = input.one_of(all_choices);
  bool shifts = false;
  for (index_t s = 0; s < shape.stages; ++s) {
    shifts = shifts || shape.of(s).depth > 1;
    choice.no_room = choice.no_room && shape.of(s).width / shape.of(s).heads <= 8;
  }
  if (!shifts && choice.kind == attention_kind::log2_of_sum && input.flag()) {
    choice.probabilities = attention_code::u4_clipped;
  }
  return choice;
}

template <class Code>
void check_blocks(fuzz_input& input, const small_swin& model, generator& random) {
  const model_run how = some_run(input);
  const reversed_executor run{.at_a_time = how.threads};
  for (index_t s = 0; s < model.shape.stages; ++s) {
    const index_t tokens = model.shape.tokens_of(s);
    guarded_tensor<Code> stream(how.batch * tokens, model.shape.of(s).width);
    fill(stream.view(), how.contents, std::numeric_limits<Code>::min(), std::numeric_limits<Code>::max(), random);
    for (index_t position = 0; position < model.shape.of(s).depth; ++position) {
      const swin_block_shape shape = model.shape.block(s, position);
      const swin_block_parameters& p =
          model.stages[static_cast<std::size_t>(s)].blocks[static_cast<std::size_t>(position)];
      guarded_tensor<Code> expected = stream;
      exact_workspace specified(reference::swin_block_workspace_bytes<Code>(shape), how.misaligned);
      for (index_t image = 0; image < how.batch; ++image) {
        reference::swin_block(expected.view().row_block(image * tokens, tokens), p, shape, specified.get());
      }
      exact_workspace scratch(swin_block_workspace_bytes<Code>(shape, how.batch, how.threads), how.misaligned);
      swin_block<tested_isa>(stream.view(), p, shape, scratch.get(), executor_ref(run));
      expect_equal("swin_block:", stream.view(), expected.view());
    }
  }
}

void check(fuzz_input& input) {
  const swin_shape shape = some_shape(input);
  const attention_choice choice = some_choice(input, shape);
  generator random = input.random();
  const small_swin model(shape, choice, static_cast<std::uint64_t>(random.between(0, 1 << 30)));
  if (shape.stream == stream_codes::u8) {
    check_blocks<std::uint8_t>(input, model, random);
    check_model<std::uint8_t>(model.parameters, shape, some_run(input), random);
  } else {
    check_blocks<std::int16_t>(input, model, random);
    check_model<std::int16_t>(model.parameters, shape, some_run(input), random);
  }
}

}  // namespace
}  // namespace intact_test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  intact_test::fuzz_input input(bytes, size);
  intact_test::check(input);
  return 0;
}
