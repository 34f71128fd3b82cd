#include "log_softmax.hpp"

#include "compare/comparison.hpp"
#include "compare/operation.hpp"
#include "isa.hpp"

// Softmax to log2 codes.

namespace intact_bench {
namespace {

void compare_log_softmax(const options& given, report& to) {
  for (const token_shape& shape : token_shapes_of(given.shapes)) {
    for (const softmax_codes wanted : {softmax_codes::u8_of_sum, softmax_codes::u4_of_sum, softmax_codes::u8_of_max}) {
      const log_softmax_task task(shape, wanted, given.threads);
      with_isa(given.isa, [&](auto isa) {
        intact_log_softmax<decltype(isa)> ours(task);
        compare_with_peers("log_softmax", task, ours, given, to);
      });
    }
  }
}

const registered_operation registered({"log_softmax", compare_log_softmax});

}  // namespace
}  // namespace intact_bench
