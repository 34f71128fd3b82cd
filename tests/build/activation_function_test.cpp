#include "intact/build/activation_function.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>

#include "catch.hpp"

namespace intact_test::activation_function_test {
namespace {

using intact::activate;
using intact::activation_function;
using intact::activation_name;
using intact::find_activation;

constexpr std::array<double, 13> inputs = {-20, -6, -3, -2.5, -1, -0.1, 0, 0.3, 1, 2, 3, 4.5, 20};

/// torch.nn.functional's values in float64; quick_gelu is x * sigmoid(1.702 * x).
struct torch_values {
  const char* name;
  activation_function function;
  std::array<double, 13> outputs;
};

constexpr torch_values expected[] = {
    {"gelu",
     activation_function::gelu,
     {0, -5.9195258694799691e-09, -0.0040496940948903104, -0.015524163314440398, -0.15865525393145702,
      -0.046017216272297101, 0, 0.1853734266566858, 0.84134474606854304, 1.9544997361036416, 2.9959503059051098,
      4.4999847104709385, 20}},
    {"gelu_tanh",
     activation_function::gelu_tanh,
     {0, -8.43964897967453e-11, -0.0036373920817729943, -0.015084266089998577, -0.15880800939172329,
      -0.046017248954564841, 0, 0.18537092354275922, 0.84119199060827676, 1.954597694087775, 2.9963626079182268,
      4.4999948632625877, 20}},
    {"quick_gelu",
     activation_function::quick_gelu,
     {-3.2934102413993747e-14, -0.00022035354978739243, -0.018071309707785969, -0.034986165048570078,
      -0.1542042340671787, -0.04575524191638182, 0, 0.1874841353815917, 0.84579576593282124, 1.9356586231442083,
      2.981928690292214, 4.4978779958241857, 19.999999999999968}},
    {"silu",
     activation_function::silu,
     {-4.1223072363804073e-08, -0.014835738939808647, -0.14227761953270035, -0.18964545005310887, -0.2689414213699951,
      -0.047502081252106004, 0, 0.17233275504349771, 0.7310585786300049, 1.7615941559557646, 2.8577223804672998,
      4.4505587581623312, 19.999999958776925}},
    {"relu", activation_function::relu, {0, 0, 0, 0, 0, 0, 0, 0.3, 1, 2, 3, 4.5, 20}},
    {"hard_swish",
     activation_function::hard_swish,
     {0, 0, 0, -0.20833333333333334, -0.33333333333333331, -0.048333333333333332, 0, 0.165, 0.66666666666666663,
      1.6666666666666667, 3, 4.5, 20}},
};

}  // namespace

TEST_CASE("activate: equals torch [every function]") {
  for (const torch_values& one : expected) {
    CAPTURE(one.name);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      CAPTURE(inputs[i]);
      CHECK(std::fabs(activate(one.function, inputs[i]) - one.outputs[i]) <= 1e-14 * (1 + std::fabs(inputs[i])));
    }
  }
}

TEST_CASE("activate: is finite, 0 far below 0 and the identity far above [every function, the largest floats]") {
  for (const torch_values& one : expected) {
    CAPTURE(one.name);
    for (const double x : {1e3, 1e10, 1e30, static_cast<double>(std::numeric_limits<float>::max())}) {
      CHECK(activate(one.function, -x) == 0);
      CHECK(activate(one.function, x) == Approx(x).epsilon(1e-15));
    }
  }
}

TEST_CASE("find_activation: knows timm's and Hugging Face's names") {
  for (const torch_values& one : expected) {
    CHECK(find_activation(one.name) == one.function);
    CHECK(activation_name(one.function) == one.name);
  }
  for (const char* const name : {"gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh"}) {
    CHECK(find_activation(name) == activation_function::gelu_tanh);
  }
  CHECK(find_activation("gelu_python") == activation_function::gelu);
  CHECK(find_activation("swish") == activation_function::silu);
  CHECK(find_activation("hardswish") == activation_function::hard_swish);
  for (const char* const name : {"", "GELU", "gelu_10", "relu6", "mish", "gelu "}) {
    CHECK_FALSE(find_activation(name));
  }
  CHECK(intact::known_activations() == "gelu, gelu_tanh, quick_gelu, silu, relu, hard_swish");
}

}  // namespace intact_test::activation_function_test
