#include <intact/intact.hpp>

int main() {
  std::uint8_t codes[2] = {3, 4};
  std::uint8_t table[256] = {};
  table[3] = 5;
  table[4] = 7;
  intact::activation(intact::matrix_view(codes, 1, 2), table, intact::matrix_view(codes, 1, 2));
  return codes[0] == 5 && codes[1] == 7 ? 0 : 1;
}
