// Operations and models of the specification, compiled with the same flags as unit.cpp.

#include "intact/reference/all.hpp"

#include <cstdint>

#include "unit.hpp"
#include "values.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace {

/// The operations that the specification alone has.
std::uint64_t hash_of_operations() {
  const matrix<std::uint8_t> x = random<std::uint8_t>(tokens, channels), shift = filled<std::uint8_t>(channels, 1),
                             gain_shift = filled<std::uint8_t>(channels, 20);
  const matrix<std::int32_t> gain = filled(channels, 40 << 10);
  const matrix<std::int64_t> bias = filled(channels, std::int64_t{257} << 33);
  hash results;
  matrix<std::int32_t> normalized(tokens, channels);
  reference::fq_vit_layernorm(x.view(), {128, shift.span(), gain.span(), gain_shift.span(), bias.span()},
                              normalized.view());
  results.add(normalized.view());
  const auto codes = x.view().column_block(0, tokens);
  const quantized_matrix v{x.view(), 128};
  matrix<std::uint8_t> y(tokens, channels);
  reference::log_sqrt2_matmul(codes, v, row_divisor{1 << 27, 128}, y.view());
  results.add(y.view());
  reference::log_sqrt2_matmul(codes, v, log_sqrt2_scale{1 << 20, 741455, std::int64_t{257} << 39, 8}, y.view());
  results.add(y.view());
  return results.value();
}

}  // namespace

std::uint64_t run_specification(const units::arguments& x) {
  hash results;
  matrix<std::int32_t> logits(1, x.shape.classes);
  matrix<std::uint8_t> logits_u8(1, x.shape.classes);
  reference::vit(x.image, x.model, x.shape, {logits.view(), logits_u8.view()}, x.memory);
  results.add(logits.view());
  results.add(logits_u8.view());
  return results.value() ^ hash_of_operations();
}

template void reference::swin(const image_view&, const swin_parameters&, const swin_shape&, const classifier_outputs&,
                              workspace, no_trace&&);

}  // namespace INTACT_UNIT
}  // namespace intact
