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
  quantized_matrix codes;              ///< rows are keys
  packed_weights<std::int8_t> packed;  ///< rows are channels, the depth is the number of keys
};

/// A head's keys and values, ready for any number of queries.
struct attention_head {
  packed_weights<std::int8_t> keys;     ///< packed as weights
  prepared_values values;               ///< packed for the product
  const std::int32_t* start = nullptr;  ///< of each key's logits
  int key_zero_point = 0;               ///< of the keys' codes
};

/// Keys and values of all heads, ready for any number of calls of attention. They refer to the caller's memory, and to
/// the values from which they were made.
struct prepared_keys_values {
  std::span<const attention_head> heads;  ///< one per head
  index_t keys = 0;                       ///< number of keys
  index_t head_size = 0;                  ///< channels of a head
  int query_zero_point = 0;               ///< that queries must have
};

/// Queries and prepared keys and values.
struct prepared_operands {
  quantized_matrix q;         ///< any number of rows
  prepared_keys_values keys;  ///< of prepare_keys_values()
  key_mask mask = {};         ///< without elements all keys are visible
};

}  // namespace INTACT_ABI
}  // namespace intact
