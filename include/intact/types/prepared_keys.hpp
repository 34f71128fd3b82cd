#pragma once

#include <cstdint>
#include <span>

#include "intact/types/key_mask.hpp"
#include "intact/types/packed_weights.hpp"
#include "intact/types/quantized_matrix.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// V, ready for any number of rows of attention.
struct prepared_values {
  quantized_matrix codes;
  packed_weights<std::int8_t> packed;  ///< rows are channels, the depth is the number of keys
};

/// A head's keys and values, ready for any number of queries.
struct attention_head {
  packed_weights<std::int8_t> keys;
  prepared_values values;
  const std::int32_t* start = nullptr;  ///< of each key's logits
  int key_zero_point = 0;
};

/// Keys and values of all heads, ready for any number of calls of attention. They refer to the caller's memory, and to
/// the values from which they were made.
struct prepared_keys_values {
  std::span<const attention_head> heads;
  index_t keys = 0;
  index_t head_size = 0;
  int query_zero_point = 0;
};

/// Queries and prepared keys and values.
struct prepared_operands {
  quantized_matrix q;
  prepared_keys_values keys;
  key_mask mask = {};  ///< without elements all keys are visible
};

}  // namespace INTACT_ABI
}  // namespace intact
