// A program may write `using namespace intact` beside the functions of POSIX, such as index() of <strings.h>.

#include <strings.h>

#include <cstddef>

#include "intact/build/packed_swin.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/intact.hpp"
#include "intact/reference/all.hpp"

using namespace intact;

std::size_t bytes_of_block(index_t tokens) {
  const block_shape shape{{.tokens = tokens, .width = 64, .heads = 4}, 128};
  return block_workspace_bytes(shape) + reference::block_workspace_bytes(shape);
}

const char* first_comma(const char* text) {
  return ::index(text, ',');
}
