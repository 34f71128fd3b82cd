#pragma once

#include <algorithm>
#include <iterator>
#include <string_view>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// The tensors of models, by name. The names of `positions` and `position_bias` are those of constants.
inline constexpr std::string_view traced_tensors[] = {
    "input",         "patch",         "patch_norm", "embed",      "positions",
    "tokens",        "norm_pre",      "stream",     "norm1",      "qkv",
    "q_norm",        "k_norm",        "q_rotated",  "k_rotated",  "attention_logits",
    "position_bias", "biased_logits", "attention",  "context",    "proj",
    "add1",          "norm2",         "fc1",        "activation", "up",
    "gated",         "fc2",           "add2",       "merge_norm", "merge",
    "norm",          "pool",          "logits",     "logits_u8"};

/// Calls of it are no constants, and nothing defines it: compilers show its name where they refuse another name.
void no_tensor_of_a_model_has_this_name();

/// One of them. Another name does not compile.
class traced_tensor {
 public:
  /// Of a literal; a name that is not listed does not compile.
  consteval traced_tensor(const char* name) : name_(name) {
    if (std::find(std::begin(traced_tensors), std::end(traced_tensors), name_) == std::end(traced_tensors)) {
      no_tensor_of_a_model_has_this_name();
    }
  }

  /// The name.
  INTACT_INLINE constexpr operator std::string_view() const { return name_; }

  INTACT_INLINE friend constexpr bool operator==(const traced_tensor& a, const traced_tensor& b) {
    return a.name_ == b.name_;
  }

 private:
  std::string_view name_;
};

/// Which tensor of a model a trace is shown. Models take a trace, anything callable as trace(site, view), and show it
/// every tensor of codes as soon as it is complete; the memory may be reused afterwards.
///
///   name                 shape                   what
///   input                patches x (C * p^2)     quantized pixels, one row per patch
///   patch                patches x width         patch embedding (u8 stream only)
///   embed                tokens x width          prefix tokens and patches in one scale (u8 stream only)
///   tokens               tokens x width          with positions: the residual stream, u8 or s16, but for norm_pre
///   norm_pre             tokens x width          LayerNorm before the blocks, if there is one: the stream of u8 codes
///   stream               tokens x width          norm_pre in s16 codes: the residual stream (s16 stream only)
///   norm1 norm2          tokens x width          LayerNorm or RMSNorm
///   qkv                  tokens x 3 width        queries, keys, values, each heads x head size
///   q_norm k_norm        tokens x width          normalized queries and keys of all heads (only with QK-norm)
///   attention_logits     tokens x tokens         per head: q * k^T / sqrt(head size)
///   attention            tokens x tokens         per head: log2 codes or u8 weights
///   context              tokens x width          attention times V, all heads
///   proj fc2             tokens x width          branches before the residual addition (u8 stream only)
///   add1 add2            tokens x width          the residual stream
///   fc1                  tokens x hidden         12-bit codes
///   activation           tokens x hidden         GELU or another function
///   up                   tokens x hidden         layer that a gate multiplies (only if the perceptron has one)
///   gated                tokens x hidden         activation times up (likewise)
///   norm                 ... x width             final LayerNorm of the tokens that are features, or of their mean
///   pool                 1 x width               mean of the patch tokens, of norm's codes or of the residual stream's
///   logits               1 x classes             int32 codes
///   logits_u8            1 x classes             u8 codes
///
/// A Swin transformer's are the same but for these (T: tokens of a window; its tensors of all windows are in window
/// order, padding included):
///
///   tokens               tokens x width          the patches' LayerNorm: the residual stream
///   patch_norm           tokens x width          the same in u8 codes (s16 stream only)
///   attention_logits     T x T                   per window and head
///   biased_logits        T x T                   per window and head: with the relative position bias
///   attention            T x T                   per window and head
///   qkv context proj     padded tokens x ...     all windows
///   merge_norm           tokens x 4 width        LayerNorm of 2 x 2 neighbours; `block` is the Swin stage before
///   merge                tokens x width          the residual stream of the next Swin stage
///   norm                 tokens x width          final LayerNorm
///   pool                 1 x width               its mean over all tokens
struct trace_site {
  traced_tensor name;   ///< which tensor
  index_t block = -1;   ///< -1: outside the blocks
  index_t head = -1;    ///< -1: all heads
  index_t window = -1;  ///< -1: all windows
};

/// Ignores every tensor.
struct no_trace {
  /// Does nothing.
  template <class View>
  INTACT_INLINE constexpr void operator()(const trace_site&, const View&) const {}
};

/// Shows `trace` the tensors of a layer, which do not know its number.
template <class Trace>
struct layer_trace {
  Trace& trace;   ///< that is shown the tensors
  index_t layer;  ///< the number that it is told

  /// Shows one tensor.
  template <class View>
  INTACT_INLINE constexpr void operator()(trace_site site, const View& view) const {
    site.block = layer;
    trace(site, view);
  }
};

}  // namespace INTACT_ABI
}  // namespace intact
