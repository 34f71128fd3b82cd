#include "intact/quantize/float_vit.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"

namespace intact_test::float_vit_test {
namespace {

using intact::float_matrix;
using intact::float_vit;
using intact::load_float_vit;
using intact::safetensors_file;
using intact::trace_site;

// ---- a small model, in memory ----

struct stored_tensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

struct stored_model {
  std::map<std::string, stored_tensor> tensors;
  std::map<std::string, std::string> metadata;

  safetensors_file file() const {
    std::string header = "{\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      header += (header.back() == '{' ? "\"" : ",\"") + key + "\":\"" + value + '"';
    }
    header += '}';
    std::vector<float> buffer;
    for (const auto& [name, tensor] : tensors) {
      header += ",\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[";
      for (const std::int64_t size : tensor.shape) {
        header += header.back() == '[' ? "" : ",";
        header += std::to_string(size);
      }
      header += "],\"data_offsets\":[" + std::to_string(4 * buffer.size());
      buffer.insert(buffer.end(), tensor.values.begin(), tensor.values.end());
      header += ',' + std::to_string(4 * buffer.size()) + "]}";
    }
    header += '}';
    const std::uint64_t length = header.size();
    std::vector<std::byte> bytes(8 + header.size() + 4 * buffer.size());
    std::memcpy(bytes.data(), &length, 8);
    std::memcpy(bytes.data() + 8, header.data(), header.size());
    std::memcpy(bytes.data() + 8 + header.size(), buffer.data(), 4 * buffer.size());
    return safetensors_file::parse(std::move(bytes), "model");
  }

  float_vit load(const intact::float_vit_options& options = {}) const { return load_float_vit(file(), options); }
};

// Sizes that all differ, so that no two can be mistaken for each other: 2 channels, patches of 3 x 3, 2 x 2 of them,
// width 12, 3 heads of 4, hidden 20, 2 blocks, 5 classes; and, if it is distilled, a second class token.
stored_model small_model(bool distilled = false) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 0.5f);
  stored_model model;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape, float offset = 0) {
    stored_tensor& tensor = model.tensors[name];
    tensor.shape = shape;
    std::int64_t size = 1;
    for (const std::int64_t n : shape) {
      size *= n;
    }
    for (std::int64_t i = 0; i < size; ++i) {
      tensor.values.push_back(offset + normal(random));
    }
  };
  const auto add_linear = [&](const std::string& name, std::int64_t outputs, std::int64_t inputs) {
    add(name + ".weight", {outputs, inputs});
    add(name + ".bias", {outputs});
  };
  const auto add_norm = [&](const std::string& name) {
    add(name + ".weight", {12}, 1);
    add(name + ".bias", {12});
  };
  add("patch_embed.proj.weight", {12, 2, 3, 3});
  add("patch_embed.proj.bias", {12});
  add("cls_token", {1, 1, 12});
  add("pos_embed", {1, distilled ? 6 : 5, 12});
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    add_norm(block + "norm1");
    add_linear(block + "attn.qkv", 36, 12);
    add_linear(block + "attn.proj", 12, 12);
    add_norm(block + "norm2");
    add_linear(block + "mlp.fc1", 20, 12);
    add_linear(block + "mlp.fc2", 12, 20);
  }
  add_norm("norm");
  add_linear("head", 5, 12);
  if (distilled) {
    add("dist_token", {1, 1, 12});
    add_linear("head_dist", 5, 12);
  }
  model.metadata = {
      {"heads", "3"}, {"ln_eps", "1e-2"}, {"pixel_max", "200"}, {"mean", "0.4, 0.6"}, {"std", "0.25,0.5"}};
  return model;
}

/// Small models with other tokens and features, under timm's names but for the last but one, whose classes have
/// positions and whose register tokens do not, as Hugging Face's.
enum class variant {
  plain,
  distilled,
  registers,
  all_positions,
  class_positions,
  mean,
  class_and_mean,
  normalized_mean,
  norm_pre,
  rectangular,
  gated,
  qk_norm,
  rmsnorm
};

stored_model small_model(variant which) {
  stored_model model = small_model(which == variant::distilled);
  const std::vector<float> first = model.tensors.at("blocks.0.attn.qkv.weight").values;
  const auto add = [&](const std::string& name, std::int64_t rows) {
    model.tensors[name] = {{1, rows, 12}, {first.begin(), first.begin() + 12 * rows}};
  };
  if (which == variant::registers || which == variant::all_positions || which == variant::class_positions) {
    add("reg_token", 6);
    if (which != variant::class_positions) {
      add("pos_embed", which == variant::registers ? 4 : 11);
    }
  }
  if (which == variant::rmsnorm) {  // of queries and keys, too
    model = small_model(variant::qk_norm);
    model.metadata["norm"] = "rmsnorm";
    std::erase_if(model.tensors, [](const auto& one) {
      return one.first.find("norm") != std::string::npos && one.first.ends_with(".bias");
    });
  } else if (which == variant::gated) {
    for (const std::string block : {"blocks.0.", "blocks.1."}) {
      std::vector<float> values = model.tensors.at(block + "mlp.fc1.weight").values;
      values.resize(14 * 12);
      model.tensors[block + "mlp.fc1.weight"] = {{14, 12}, values};
      model.tensors[block + "mlp.fc1.bias"] = {{14}, {values.begin(), values.begin() + 14}};
      model.tensors[block + "mlp.fc2.weight"] = {{12, 7}, {values.begin() + 30, values.begin() + 114}};
    }
  } else if (which == variant::qk_norm) {
    for (const std::string norm :
         {"blocks.0.attn.q_norm", "blocks.0.attn.k_norm", "blocks.1.attn.q_norm", "blocks.1.attn.k_norm"}) {
      const std::ptrdiff_t at = std::ssize(norm) + 40 * (norm[7] - '0') + 4 * (norm[14] - 'k');
      model.tensors[norm + ".weight"] = {{4}, {first.begin() + at, first.begin() + at + 4}};
      model.tensors[norm + ".bias"] = {{4}, {first.begin() + at + 4, first.begin() + at + 8}};
    }
  } else if (which == variant::rectangular) {  // patches of 3 x 2 pixels
    stored_tensor& patch = model.tensors.at("patch_embed.proj.weight");
    patch = {{12, 2, 3, 2}, {patch.values.begin(), patch.values.begin() + 144}};
  } else if (which == variant::norm_pre) {  // as CLIP's: patches have no bias
    for (const std::string kind : {".weight", ".bias"}) {
      model.tensors["norm_pre" + kind] = model.tensors.at("blocks.1.norm2" + kind);
    }
    model.tensors.erase("patch_embed.proj.bias");
  } else if (which == variant::mean) {
    model.tensors.erase("cls_token");
    add("pos_embed", 4);
  } else if (which == variant::class_and_mean) {
    const std::vector<float> values = model.tensors.at("blocks.0.mlp.fc1.weight").values;
    model.tensors["head.weight"] = {{5, 24}, {values.begin(), values.begin() + 120}};
  } else if (which == variant::normalized_mean) {
    for (const std::string kind : {".weight", ".bias"}) {
      model.tensors["fc_norm" + kind] = model.tensors.at("norm" + kind);
      model.tensors.erase("norm" + kind);
    }
  }
  return model;
}

std::vector<std::uint8_t> random_pixels(std::size_t count) {
  std::mt19937 random(5);
  std::vector<std::uint8_t> pixels(count);
  std::generate(pixels.begin(), pixels.end(), [&] { return static_cast<std::uint8_t>(random() % 256); });
  return pixels;
}

// ---- the same model in plain double loops ----

using plain_matrix = std::vector<std::vector<double>>;

struct shown_tensor {
  std::string name;
  intact::index_t block, head;
  plain_matrix values;
};

class plain_vit {
 public:
  explicit plain_vit(const stored_model& model) : model_(model) {}

  std::vector<shown_tensor> shown;

  void run(const std::vector<std::uint8_t>& image) {
    const double mean[] = {0.4, 0.6}, deviation[] = {0.25, 0.5};
    plain_matrix x;
    const std::size_t across = static_cast<std::size_t>(model_.tensors.at("patch_embed.proj.weight").shape[3]);
    const std::size_t width = 2 * across;
    for (std::size_t py = 0; py < 6; py += 3) {
      for (std::size_t px = 0; px < width; px += across) {
        x.emplace_back();
        for (std::size_t c = 0; c < 2; ++c) {
          for (std::size_t y = py; y < py + 3; ++y) {
            for (std::size_t z = px; z < px + across; ++z) {
              x.back().push_back((image[(c * 6 + y) * width + z] / 200.0 - mean[c]) / deviation[c]);
            }
          }
        }
      }
    }
    show("input", x);
    x = linear("patch_embed.proj", x);
    show("patch", x);
    plain_matrix tokens;
    std::size_t classes = 0;
    for (const char* const name : {"cls_token", "dist_token", "reg_token"}) {
      for (std::size_t i = 0; model_.tensors.contains(name) && i < model_.tensors.at(name).values.size() / 12; ++i) {
        classes += name[0] == 'r' ? 0 : 1;
        tokens.push_back(row(name, i, 12));
      }
    }
    const std::size_t prefix = tokens.size(), positions = model_.tensors.at("pos_embed").values.size() / 12;
    tokens.insert(tokens.end(), x.begin(), x.end());
    show("embed", tokens);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      if (t >= prefix) {
        tokens[t] = sum(tokens[t], row("pos_embed", t + positions - tokens.size(), 12));
      } else if (t < positions - 4) {
        tokens[t] = sum(tokens[t], row("pos_embed", t, 12));
      }
    }
    x = tokens;
    show("tokens", x);
    if (model_.tensors.contains("norm_pre.weight")) {
      x = layernorm("norm_pre", x);
      show("norm_pre", x);
    }
    for (int block = 0; block < 2; ++block) {
      run_block(block, x);
    }
    run_head(plain_matrix(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(classes)),
             plain_matrix(x.end() - 4, x.end()));
  }

 private:
  /// The features and the logits, from class tokens and patches.
  void run_head(plain_matrix classes, const plain_matrix& patches) {
    plain_matrix logits;
    if (model_.tensors.contains("fc_norm.weight")) {
      plain_matrix pooled = {mean_of(patches)};
      show("pool", pooled);
      pooled = layernorm("fc_norm", pooled);
      show("norm", pooled);
      logits = linear("head", pooled);
    } else if (classes.empty() || model_.tensors.at("head.weight").shape[1] == 24) {
      plain_matrix features = classes;
      features.insert(features.end(), patches.begin(), patches.end());
      features = layernorm("norm", features);
      show("norm", features);
      const std::vector<double> pooled = mean_of(plain_matrix(features.end() - 4, features.end()));
      show("pool", {pooled});
      std::vector<double> both = classes.empty() ? std::vector<double>() : features[0];
      both.insert(both.end(), pooled.begin(), pooled.end());
      logits = linear("head", {both});
    } else {
      const bool distilled = classes.size() == 2;
      classes = layernorm("norm", classes);
      show("norm", classes);
      logits = linear("head", {classes[0]});
      if (distilled) {
        logits[0] = sum(logits[0], linear("head_dist", {classes[1]})[0]);
        for (double& logit : logits[0]) {
          logit /= 2;
        }
      }
    }
    show("logits", logits);
  }

  void show(const std::string& name, const plain_matrix& x, int block = -1, int head = -1) {
    shown.push_back({name, block, head, x});
  }

  double value(const std::string& name, std::size_t i) const {
    return static_cast<double>(model_.tensors.at(name).values.at(i));
  }

  std::vector<double> row(const std::string& name, std::size_t i, std::size_t columns) const {
    std::vector<double> values;
    for (std::size_t j = 0; j < columns; ++j) {
      values.push_back(value(name, i * columns + j));
    }
    return values;
  }

  static std::vector<double> sum(std::vector<double> a, const std::vector<double>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      a[i] += b[i];
    }
    return a;
  }

  static std::vector<double> mean_of(const plain_matrix& rows) {
    std::vector<double> mean(rows[0].size());
    for (const std::vector<double>& one : rows) {
      for (std::size_t c = 0; c < mean.size(); ++c) {
        mean[c] += one[c] / static_cast<double>(rows.size());
      }
    }
    return mean;
  }

  static double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      sum += a[i] * b[i];
    }
    return sum;
  }

  plain_matrix linear(const std::string& name, const plain_matrix& x) const {
    plain_matrix y(x.size());
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t n = 0; n < model_.tensors.at(name + ".weight").values.size() / x[t].size(); ++n) {
        const double bias = model_.tensors.contains(name + ".bias") ? value(name + ".bias", n) : 0;
        y[t].push_back(dot(x[t], row(name + ".weight", n, x[t].size())) + bias);
      }
    }
    return y;
  }

  bool is_rmsnorm() const { return model_.metadata.contains("norm"); }

  /// The bias of a norm; RMSNorms have none.
  double norm_bias(const std::string& name, std::size_t c) const { return is_rmsnorm() ? 0 : value(name + ".bias", c); }

  plain_matrix layernorm(const std::string& name, plain_matrix x) const {
    for (std::vector<double>& token : x) {
      double mean = 0, variance = 0;
      for (const double value : token) {
        mean += is_rmsnorm() ? 0 : value / 12;
      }
      for (const double value : token) {
        variance += (value - mean) * (value - mean) / 12;
      }
      for (std::size_t c = 0; c < 12; ++c) {
        token[c] = (token[c] - mean) / std::sqrt(variance + 0.01) * value(name + ".weight", c) + norm_bias(name, c);
      }
    }
    return x;
  }

  static std::vector<double> part(const std::vector<double>& token, std::size_t first, std::size_t count) {
    const auto begin = token.begin() + static_cast<std::ptrdiff_t>(first);
    return {begin, begin + static_cast<std::ptrdiff_t>(count)};
  }

  /// Rows of fc1 from the seventh on are multiplied by those before.
  bool gated() const { return model_.tensors.at("blocks.0.mlp.fc1.weight").shape[0] == 14; }

  double activate(double x) const {
    const auto found = model_.metadata.find("activation");
    const std::string name = found != model_.metadata.end() ? found->second : gated() ? "silu" : "gelu";
    return name == "gelu_tanh"    ? x / 2 * (1 + std::tanh(0.7978845608028654 * x * (1 + 0.044715 * x * x)))
           : name == "quick_gelu" ? x / (1 + std::exp(-1.702 * x))
           : name == "silu"       ? x / (1 + std::exp(-x))
           : name == "relu"       ? std::fmax(x, 0)
           : name == "hard_swish" ? x / 6 * std::fmin(std::fmax(x + 3, 0), 6)
                                  : x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
  }

  /// Normalizes the columns of queries (from column 0) or keys (from column 12) of each head.
  plain_matrix normalize_heads(const std::string& name, plain_matrix& qkv, std::size_t first) const {
    plain_matrix all;
    for (std::vector<double>& token : qkv) {
      for (std::size_t head = 0; head < 3; ++head) {
        double* const x = token.data() + first + 4 * head;
        const double mean = is_rmsnorm() ? 0 : (x[0] + x[1] + x[2] + x[3]) / 4;
        double variance = 0;
        for (std::size_t c = 0; c < 4; ++c) {
          variance += (x[c] - mean) * (x[c] - mean) / 4;
        }
        for (std::size_t c = 0; c < 4; ++c) {
          x[c] = (x[c] - mean) / std::sqrt(variance + 0.01) * value(name + ".weight", c) + norm_bias(name, c);
        }
      }
      all.push_back(part(token, first, 12));
    }
    return all;
  }

  plain_matrix attention(int block, const plain_matrix& qkv) {
    const std::size_t tokens = qkv.size();
    plain_matrix context(tokens, std::vector<double>(12));
    for (std::size_t head = 0; head < 3; ++head) {
      plain_matrix logits(tokens, std::vector<double>(tokens)), weights = logits;
      for (std::size_t i = 0; i < tokens; ++i) {
        double total = 0;
        for (std::size_t j = 0; j < tokens; ++j) {
          logits[i][j] = dot(part(qkv[i], 4 * head, 4), part(qkv[j], 12 + 4 * head, 4)) / 2;  // sqrt(head size) = 2
          total += std::exp(logits[i][j]);
        }
        for (std::size_t j = 0; j < tokens; ++j) {
          weights[i][j] = std::exp(logits[i][j]) / total;
          for (std::size_t c = 4 * head; c < 4 * head + 4; ++c) {
            context[i][c] += weights[i][j] * qkv[j][24 + c];
          }
        }
      }
      show("attention_logits", logits, block, static_cast<int>(head));
      show("attention", weights, block, static_cast<int>(head));
    }
    return context;
  }

  void run_block(int block, plain_matrix& stream) {
    const std::string name = "blocks." + std::to_string(block) + '.';
    const auto step = [&](const char* site, plain_matrix x) {
      show(site, x, block);
      return x;
    };
    plain_matrix x = step("norm1", layernorm(name + "norm1", stream));
    x = step("qkv", linear(name + "attn.qkv", x));
    if (model_.tensors.contains(name + "attn.q_norm.weight")) {
      show("q_norm", normalize_heads(name + "attn.q_norm", x, 0), block);
      show("k_norm", normalize_heads(name + "attn.k_norm", x, 12), block);
    }
    x = attention(block, x);
    show("context", x, block);
    x = step("proj", linear(name + "attn.proj", x));
    for (std::size_t t = 0; t < x.size(); ++t) {
      stream[t] = sum(stream[t], x[t]);
    }
    show("add1", stream, block);
    x = step("norm2", layernorm(name + "norm2", stream));
    x = linear(name + "mlp.fc1", x);
    plain_matrix up;
    for (std::vector<double>& token : x) {
      if (gated()) {
        up.emplace_back(token.begin() + 7, token.end());
        token.resize(7);
      }
    }
    show("fc1", x, block);
    for (std::vector<double>& token : x) {
      for (double& value : token) {
        value = activate(value);
      }
    }
    show("activation", x, block);
    if (gated()) {
      show("up", up, block);
      for (std::size_t t = 0; t < x.size(); ++t) {
        std::transform(x[t].begin(), x[t].end(), up[t].begin(), x[t].begin(), std::multiplies<>());
      }
      show("gated", x, block);
    }
    x = step("fc2", linear(name + "mlp.fc2", x));
    for (std::size_t t = 0; t < x.size(); ++t) {
      stream[t] = sum(stream[t], x[t]);
    }
    show("add2", stream, block);
  }

  const stored_model& model_;
};

/// Largest difference of two tensors of the same shape, in units of the largest value.
double relative_difference(const plain_matrix& expected, const float_matrix& actual) {
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    for (std::size_t j = 0; j < expected[i].size(); ++j) {
      const double found = static_cast<double>(actual(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)));
      difference = std::max(difference, std::fabs(found - expected[i][j]));
      largest = std::max(largest, std::fabs(expected[i][j]));
    }
  }
  return difference / largest;
}

std::string load_error(const stored_model& model, const intact::float_vit_options& options = {}) {
  try {
    model.load(options);
  } catch (const intact::file_error& error) {
    return error.what();
  }
  return "no error";
}

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

/// The folder of models and images, from the environment variable INTACT_DATA_DIR; empty when it is not set.
std::filesystem::path data_directory() {
  const char* const directory = std::getenv("INTACT_DATA_DIR");
  return directory == nullptr ? "" : directory;
}

}  // namespace

TEST_CASE("view_of, map_of: Eigen matrices and views share their memory", "[eigen]") {
  float_matrix matrix(3, 4);
  matrix << 0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23;
  const intact::matrix_view<float> whole = intact::view_of(matrix);
  CHECK(whole.data == matrix.data());
  CHECK(whole.rows == 3);
  CHECK(whole.columns == 4);
  CHECK(whole.stride == 4);

  const auto block = matrix.block(1, 1, 2, 2);
  const intact::matrix_view<const float> part = intact::view_of(block);
  CHECK(part.rows == 2);
  CHECK(part.columns == 2);
  CHECK(part.stride == 4);
  CHECK(part(1, 0) == 21);

  intact::map_of(whole.column_block(2, 2))(0, 1) = 7;
  CHECK(matrix(0, 3) == 7);
  CHECK(intact::map_of(part) == block);
  CHECK(intact::map_of(intact::matrix_view<const float>(nullptr, 0, 3)).size() == 0);
  CHECK(intact::span_of(matrix).size() == 12);
  CHECK(intact::span_of(matrix)[5] == 11);
}

TEST_CASE("load_float_vit: derives sizes from the tensors", "[float_vit]") {
  const float_vit model = small_model().load();
  CHECK(model.shape.channels == 2);
  CHECK(model.shape.height == 6);
  CHECK(model.shape.image_width == 6);
  CHECK(model.shape.patch == 3);
  CHECK(model.shape.width == 12);
  CHECK(model.shape.heads == 3);
  CHECK(model.shape.hidden == 20);
  CHECK(model.shape.depth == 2);
  CHECK(model.shape.classes == 5);
  CHECK(model.blocks.size() == 2);
  CHECK(model.epsilon == 1e-2f);
  CHECK(model.pixel_max == 200);
  CHECK(model.mean == std::vector<float>{0.4f, 0.6f});
  CHECK(model.standard_deviation == std::vector<float>{0.25f, 0.5f});
  CHECK(model.normalize(100, 1) == (100 / 200.0f - 0.6f) / 0.5f);
}

TEST_CASE("load_float_vit: options replace metadata, which replaces defaults", "[float_vit]") {
  stored_model stored = small_model();
  const intact::float_vit_options options{
      .heads = 4, .epsilon = 0.5f, .pixel_max = 16, .mean = {0.25f}, .standard_deviation = {2, 3}};
  const float_vit model = stored.load(options);
  CHECK(model.shape.heads == 4);
  CHECK(model.epsilon == 0.5f);
  CHECK(model.pixel_max == 16);
  CHECK(model.mean == std::vector<float>{0.25f, 0.25f});
  CHECK(model.standard_deviation == std::vector<float>{2, 3});

  stored.metadata = {{"mean", "0"}, {"std", "1"}};
  const float_vit plain = stored.load({.heads = 12});
  CHECK(plain.epsilon == 1e-6f);
  CHECK(plain.pixel_max == 255);
  CHECK(plain.mean == std::vector<float>{0, 0});
  CHECK(plain.shape.heads == 12);
}

// Float has a unit roundoff of 6e-8. Sums of at most 20 products and a dozen steps per block leave errors of a few 1e-7
// of a tensor's largest value; 1e-5 leaves room for other orders of summation, and is below the effect of any
// change of a formula (the tanh approximation of GELU: 1e-4).
constexpr double tolerance = 1e-5;

namespace {

void check_tensors(const stored_model& stored) {
  const float_vit model = stored.load();
  const std::vector<std::uint8_t> pixels = random_pixels(72);
  plain_vit plain(stored);
  plain.run(pixels);

  std::size_t next = 0;
  const auto check = [&](const trace_site& site, const float_matrix& tensor) {
    REQUIRE(next < plain.shown.size());
    const shown_tensor& expected = plain.shown[next++];
    CAPTURE(expected.name, expected.block, expected.head);
    REQUIRE(std::tuple(std::string(site.name), site.block, site.head) ==
            std::tuple(expected.name, expected.block, expected.head));
    REQUIRE(static_cast<std::size_t>(tensor.rows()) == expected.values.size());
    REQUIRE(static_cast<std::size_t>(tensor.cols()) == expected.values[0].size());
    CHECK(relative_difference(expected.values, tensor) < tolerance);
  };
  const std::vector<float> logits =
      intact::forward(model, intact::planar_image(pixels.data(), 2, 6, model.shape.image_width), check);
  CHECK(next == plain.shown.size());
  REQUIRE(logits.size() == 5);
  CHECK(relative_difference(plain.shown.back().values, Eigen::Map<const float_matrix>(logits.data(), 1, 5)) <
        tolerance);
}

}  // namespace

TEST_CASE("forward: every tensor equals that of plain double loops", "[float_vit]") {
  const auto which =
      GENERATE(variant::plain, variant::distilled, variant::registers, variant::all_positions, variant::class_positions,
               variant::mean, variant::class_and_mean, variant::normalized_mean, variant::norm_pre,
               variant::rectangular, variant::gated, variant::qk_norm, variant::rmsnorm);
  CAPTURE(static_cast<int>(which));
  check_tensors(small_model(which));
}

TEST_CASE("forward: every tensor equals that of plain double loops [every activation function]", "[float_vit]") {
  for (const char* const name : {"gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "hard_swish"}) {
    CAPTURE(name);
    stored_model stored = small_model();
    stored.metadata["activation"] = name;
    check_tensors(stored);
  }
}

TEST_CASE("load_float_vit: the grid of patches is that of a given image, else square", "[float_vit]") {
  stored_model stored = small_model();
  const auto size = [&](const intact::float_vit_options& options) {
    const intact::vit_shape shape = stored.load(options).shape;
    return std::pair(shape.height, shape.image_width);
  };
  const auto positions = [&](std::int64_t count) {
    stored.tensors["pos_embed"] = {{1, count, 12}, std::vector<float>(static_cast<std::size_t>(count) * 12, 0.5F)};
  };
  CHECK(size({}) == std::pair(intact::index_t{6}, intact::index_t{6}));
  CHECK(size({.images = {{12, 3}}}) == std::pair(intact::index_t{12}, intact::index_t{3}));
  CHECK(size({.images = {{9, 9}, {3, 12}}}) == std::pair(intact::index_t{3}, intact::index_t{12}));  // the first has 9
  CHECK(size({.images = {{9, 9}}}) == std::pair(intact::index_t{6}, intact::index_t{6}));
  positions(7);
  CHECK(size({.images = {{6, 9}}}) == std::pair(intact::index_t{6}, intact::index_t{9}));
  CHECK(stored.load({.images = {{6, 9}}}).positions.rows() == 7);
  CHECK(load_error(stored, {.images = {{7, 9}}}).find("a square number of patches, or those of a given image size") !=
        std::string::npos);
  // 8 patches of 3 x 6 pixels are a square of 12 pixels: 4 rows of 2.
  stored.tensors["patch_embed.proj.weight"] = {{12, 2, 3, 6}, std::vector<float>(12 * 36, 0.25F)};
  positions(9);
  CHECK(size({}) == std::pair(intact::index_t{12}, intact::index_t{12}));
}

TEST_CASE("forward: gives the features of a model without a head", "[float_vit]") {
  stored_model stored = small_model(variant::registers);
  const std::vector<std::uint8_t> pixels = random_pixels(72);
  const intact::image_view image = intact::planar_image(pixels.data(), 2, 6, 6);
  const auto features = [&](intact::vit_pooling pooling) {
    return intact::forward(stored.load({.pooling = pooling, .without_head = true}), image);
  };
  const std::vector<float> patches = features(intact::vit_pooling::patch_tokens);
  const std::vector<float> mean = features(intact::vit_pooling::mean);
  const std::vector<float> classes = features(intact::vit_pooling::class_tokens);
  REQUIRE(patches.size() == 48);
  REQUIRE(mean.size() == 12);
  REQUIRE(classes.size() == 12);
  const float_vit with_head = stored.load();
  for (std::size_t c = 0; c < 12; ++c) {
    CHECK(std::fabs(mean[c] - (patches[c] + patches[12 + c] + patches[24 + c] + patches[36 + c]) / 4) < 1e-5F);
  }
  for (Eigen::Index n = 0; n < 5; ++n) {
    float logit = with_head.head.bias[n];
    for (Eigen::Index c = 0; c < 12; ++c) {
      logit += with_head.head.weight(n, c) * classes[static_cast<std::size_t>(c)];
    }
    CHECK(std::fabs(logit - intact::forward(with_head, image)[static_cast<std::size_t>(n)]) < 1e-4F);
  }
  CHECK(load_error(stored, {.pooling = intact::vit_pooling::patch_tokens}) ==
        "model: the features are patch tokens; a head takes class tokens or means");
  stored.tensors.erase("head.weight");
  CHECK(load_error(stored) == "model: tensor \"head.weight\" is missing");
  stored.tensors.erase("head.bias");
  CHECK(stored.load().shape.classes == 0);
  CHECK(intact::forward(stored.load(), image) == classes);
}

TEST_CASE("load_float_vit: the activation function is the option's, else the metadata's, else GELU", "[float_vit]") {
  stored_model stored = small_model();
  CHECK(stored.load().blocks[1].activation == intact::activation_function::gelu);
  stored.metadata["activation"] = "swish";
  CHECK(stored.load().blocks[0].activation == intact::activation_function::silu);
  CHECK(stored.load().blocks[1].activation == intact::activation_function::silu);
  stored.metadata["activation"] = "mish";
  CHECK(load_error(stored) ==
        "model: metadata \"activation\" is \"mish\"; it must be gelu, gelu_tanh, quick_gelu, silu, relu, hard_swish");
  CHECK(stored.load({.activation = intact::activation_function::relu}).blocks[1].activation ==
        intact::activation_function::relu);
}

TEST_CASE("load_float_vit: fc1 of twice as many rows as fc2 has columns is a gate, whose function is SiLU",
          "[float_vit]") {
  stored_model stored = small_model(variant::gated);
  const float_vit model = stored.load();
  CHECK(model.shape.gated);
  CHECK(model.shape.hidden == 7);
  CHECK(model.blocks[1].activation == intact::activation_function::silu);
  CHECK(model.blocks[1].fc1.weight.rows() == 7);
  CHECK(model.blocks[1].up.bias[0] == stored.tensors.at("blocks.1.mlp.fc1.bias").values[7]);
  CHECK(model.blocks[1].up.weight(6, 11) == stored.tensors.at("blocks.1.mlp.fc1.weight").values.back());
  stored.metadata["activation"] = "gelu";
  CHECK(stored.load().blocks[0].activation == intact::activation_function::gelu);
  CHECK_FALSE(small_model().load().shape.gated);
  stored.tensors["blocks.1.mlp.fc1.bias"] = {{7}, std::vector<float>(7)};
  CHECK(load_error(stored) == "model: tensor \"blocks.1.mlp.fc1.bias\" has shape [7]; it must be [14]");
}

TEST_CASE("load_float_vit: tensors q_norm and k_norm are norms of each head's queries and keys", "[float_vit]") {
  stored_model stored = small_model(variant::qk_norm);
  const float_vit model = stored.load();
  CHECK(model.shape.qk_norm == intact::normalization::layernorm);
  CHECK(model.blocks[1].k_norm.bias[3] == stored.tensors.at("blocks.1.attn.k_norm.bias").values[3]);
  CHECK(model.blocks[1].q_norm.weight.size() == 4);
  CHECK_FALSE(small_model().load().shape.qk_norm.has_value());
  stored.tensors["blocks.1.attn.k_norm.bias"] = {{12}, std::vector<float>(12)};
  CHECK(load_error(stored) == "model: tensor \"blocks.1.attn.k_norm.bias\" has shape [12]; it must be [4]");
  stored.tensors.erase("blocks.1.attn.k_norm.bias");
  CHECK(load_error(stored) == "model: tensor \"blocks.1.attn.k_norm.bias\" is missing");
}

TEST_CASE("load_float_vit: norms are RMSNorms without biases if the option, else the metadata, says so",
          "[float_vit]") {
  stored_model stored = small_model(variant::rmsnorm);
  const float_vit model = stored.load();
  CHECK(model.shape.norm == intact::normalization::rmsnorm);
  CHECK(model.shape.qk_norm == intact::normalization::rmsnorm);
  CHECK(model.blocks[0].norm2.bias == intact::float_row::Zero(12));
  CHECK(model.blocks[1].k_norm.bias == intact::float_row::Zero(4));
  CHECK(load_error(stored, {.norm = intact::normalization::layernorm}) ==
        "model: tensor \"blocks.0.norm1.bias\" is missing");
  stored.metadata["norm"] = "batchnorm";
  CHECK(load_error(stored) == "model: metadata \"norm\" is \"batchnorm\"; it must be \"layernorm\" or \"rmsnorm\"");
  stored.metadata.erase("norm");
  CHECK(load_error(stored) == "model: tensor \"blocks.0.norm1.bias\" is missing");
  CHECK(stored.load({.norm = intact::normalization::rmsnorm}).shape.norm == intact::normalization::rmsnorm);
  CHECK(load_error(small_model(), {.norm = intact::normalization::rmsnorm}).find("norm1.bias\" has no place") !=
        std::string::npos);
}

TEST_CASE("forward: does not depend on the layout of the image, and needs no recorder", "[float_vit]") {
  const float_vit model = small_model().load();
  const std::vector<std::uint8_t> planar = random_pixels(72);
  std::vector<std::uint8_t> interleaved(72);
  for (std::size_t i = 0; i < 72; ++i) {
    interleaved[i % 36 * 2 + i / 36] = planar[i];
  }
  const std::vector<float> logits = intact::forward(model, intact::planar_image(planar.data(), 2, 6, 6));
  CHECK(logits == intact::forward(model, intact::interleaved_image(interleaved.data(), 2, 6, 6)));
  CHECK(all_finite(logits));
}

TEST_CASE("forward: gives a logit computed by hand [smallest sizes]", "[float_vit]") {
  stored_model stored;
  for (const char* const name : {"norm", "blocks.0.norm1", "blocks.0.norm2", "head", "blocks.0.attn.proj",
                                 "blocks.0.mlp.fc1", "blocks.0.mlp.fc2"}) {
    const bool norm = std::string(name).find("norm") != std::string::npos;
    stored.tensors[std::string(name) + ".weight"] = {
        norm ? std::vector<std::int64_t>{1} : std::vector<std::int64_t>{1, 1}, {1}};
    stored.tensors[std::string(name) + ".bias"] = {{1}, {0.5f}};
  }
  stored.tensors["blocks.0.attn.qkv.weight"] = {{3, 1}, {1, 1, 1}};
  stored.tensors["blocks.0.attn.qkv.bias"] = {{3}, {0, 0, 0}};
  stored.tensors["patch_embed.proj.weight"] = {{1, 1, 1, 1}, {2}};
  stored.tensors["patch_embed.proj.bias"] = {{1}, {3}};
  stored.tensors["cls_token"] = {{1, 1, 1}, {4}};
  stored.tensors["pos_embed"] = {{1, 2, 1}, {5, 6}};
  stored.metadata = {{"mean", "0"}, {"std", "1"}, {"heads", "1"}};
  const std::uint8_t pixel = 255;
  // A single channel is its own mean: norm gives its bias, 1/2, and head adds 1/2 to it.
  CHECK(intact::forward(stored.load(), intact::planar_image(&pixel, 1, 1, 1)) == std::vector<float>{1});
}

TEST_CASE("forward: refuses images of other sizes", "[float_vit]") {
  const float_vit model = small_model().load();
  const std::vector<std::uint8_t> pixels(200);
  const auto run = [&](intact::index_t channels, intact::index_t height, intact::index_t width) {
    try {
      intact::forward(model, intact::planar_image(pixels.data(), channels, height, width));
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(run(1, 6, 6) == "intact::forward: image channels is 1; it must be equal to 2");
  CHECK(run(2, 9, 6) == "intact::forward: image height is 9; it must be equal to 6");
  CHECK(run(2, 6, 3) == "intact::forward: image width is 3; it must be equal to 6");
}

TEST_CASE("load_float_vit: refuses files of no vision transformer", "[float_vit]") {
  const stored_model good = small_model();
  stored_model bad = good;

  SECTION("every tensor is needed") {
    for (const auto& [name, tensor] : good.tensors) {
      bad = good;
      bad.tensors.erase(name);
      CAPTURE(name);
      const std::string message = load_error(bad);
      // Without norm1 of one block there is one block less, and the last one's tensors are too many.
      const bool named = message.find('"' + name + "\" is missing") != std::string::npos;
      CHECK((named || (name == "blocks.1.norm1.weight" && message.find("\"blocks.1.") != std::string::npos)));
    }
  }
  SECTION("every tensor has one shape") {
    for (const auto& [name, tensor] : good.tensors) {
      bad = good;
      bad.tensors[name].shape.push_back(1);
      CAPTURE(name);
      CHECK(load_error(bad).find('"' + name + "\" has shape ") != std::string::npos);
    }
    bad = good;
    bad.tensors["blocks.1.attn.proj.bias"] = {{11}, std::vector<float>(11)};
    CHECK(load_error(bad) == "model: tensor \"blocks.1.attn.proj.bias\" has shape [11]; it must be [12]");
    bad = good;
    bad.tensors["patch_embed.proj.weight"].shape = {12, 18};
    CHECK(load_error(bad) ==
          "model: tensor \"patch_embed.proj.weight\" has shape [12, 18]; it must have 4 sizes in 1..1048576");
    bad.tensors["patch_embed.proj.weight"] = {{0, 2, 3, 3}, {}};
    CHECK(load_error(bad).find("it must have 4 sizes in 1..1048576") != std::string::npos);
  }
  SECTION("patches form a square") {
    for (const std::int64_t tokens : {3, 6, 7}) {
      bad.tensors["pos_embed"] = {{1, tokens, 12}, std::vector<float>(static_cast<std::size_t>(tokens) * 12)};
      CHECK(load_error(bad) ==
            "model: tensor \"pos_embed\" has " + std::to_string(tokens) +
                " tokens; it must have a square number of patches, or those of a given image size, alone or after 1 "
                "class tokens (\"cls_token\", \"dist_token\") and 0 registers (\"reg_token\")");
    }
  }
  SECTION("positions mean one number of patches") {
    bad.tensors["reg_token"] = {{1, 4, 12}, std::vector<float>(48)};
    bad.tensors["pos_embed"] = {{1, 9, 12}, std::vector<float>(108)};
    CHECK(load_error(bad) ==
          "model: tensor \"pos_embed\" has 9 tokens, which may be 9 patches or 4 after 5 other tokens");
  }
  SECTION("a distilled model has all that belongs to it") {
    const stored_model distilled = small_model(true);
    bad = distilled;
    bad.tensors.erase("head_dist.bias");
    CHECK(load_error(bad) == "model: tensor \"head_dist.bias\" is missing");
    bad = distilled;
    bad.tensors.erase("dist_token");
    CHECK(load_error(bad).starts_with("model: tensor \"pos_embed\" has 6 tokens; it must have a square number"));
    bad = distilled;
    bad.tensors["pos_embed"] = good.tensors.at("pos_embed");
    CHECK(load_error(bad).find("has 5 tokens; it must have a square number of patches, or those of a given image size, "
                               "alone or after 2 class") != std::string::npos);
    bad = good;
    bad.tensors["head_dist.bias"] = good.tensors.at("head.bias");
    CHECK(load_error(bad).find("\"head_dist.bias\" has no place") != std::string::npos);
  }
  SECTION("every value is finite") {
    bad.tensors["blocks.1.mlp.fc2.weight"].values[20 * 3 + 7] = std::numeric_limits<float>::infinity();
    CHECK(load_error(bad) ==
          "model: tensor \"blocks.1.mlp.fc2.weight\" has the value inf at row 3, column 7; it must be finite");
    bad = good;
    bad.tensors["norm.bias"].values[11] = std::nanf("");
    CHECK(load_error(bad).find("\"norm.bias\" has the value nan at row 0, column 11") != std::string::npos);
  }
  SECTION("no tensor is left over") {
    bad.tensors["blocks.0.ls3.gamma"] = {{12}, std::vector<float>(12)};
    CHECK(load_error(bad) ==
          "model: tensor \"blocks.0.ls3.gamma\" has no place in a vision transformer of this architecture; not "
          "understood: \"blocks.0.ls3.gamma\" (nearest known name \"blocks.0.ls1.gamma\")");
  }
}

TEST_CASE("load_float_vit: features are those that the option, the metadata or the names of tensors tell",
          "[float_vit]") {
  using intact::vit_pooling;
  stored_model plain = small_model(), gap = small_model(variant::mean), fc_norm = small_model(variant::normalized_mean);
  CHECK(plain.load().shape.pooling == vit_pooling::class_tokens);
  CHECK(plain.load({.pooling = vit_pooling::mean}).shape.pooling == vit_pooling::mean);
  CHECK(gap.load().shape.pooling == vit_pooling::mean);
  CHECK(fc_norm.load().shape.pooling == vit_pooling::normalized_mean);
  CHECK(small_model(variant::class_and_mean).load().shape.pooling == vit_pooling::class_tokens_and_mean);
  for (stored_model* const model : {&plain, &gap, &fc_norm}) {
    model->metadata["global_pool"] = "avg";
  }
  CHECK(plain.load().shape.pooling == vit_pooling::mean);
  CHECK(gap.load().shape.pooling == vit_pooling::mean);
  CHECK(fc_norm.load().shape.pooling == vit_pooling::normalized_mean);
  fc_norm.metadata["global_pool"] = gap.metadata["global_pool"] = plain.metadata["global_pool"] = "token";
  CHECK(plain.load().shape.pooling == vit_pooling::class_tokens);
  CHECK(fc_norm.load().shape.pooling == vit_pooling::class_tokens);  // whose LayerNorm is fc_norm
  CHECK(load_error(gap) == "model: the features are those of a class token; the model has no tensor \"cls_token\"");
  plain.metadata["global_pool"] = "map";
  CHECK(load_error(plain) == "model: metadata \"global_pool\" is \"map\"; it must be \"token\" or \"avg\"");
  stored_model both = small_model();
  both.tensors["fc_norm.weight"] = both.tensors["norm.weight"];
  both.tensors["fc_norm.bias"] = both.tensors["norm.bias"];
  CHECK(load_error(both).find("tensor \"norm.bias\" has no place in a vision transformer") != std::string::npos);
}

TEST_CASE("load_float_vit: refuses metadata and options of no model", "[float_vit]") {
  const stored_model good = small_model();
  const auto with = [&](const std::string& key, const std::string& value) {
    stored_model model = good;
    model.metadata[key] = value;
    return load_error(model);
  };
  const std::string heads_rule = "; it must be a whole number that divides the width, 12";
  CHECK(with("heads", "5") == "model: heads is 5.000000" + heads_rule);
  CHECK(with("heads", "24") == "model: heads is 24.000000" + heads_rule);
  CHECK(with("heads", "0") == "model: heads is 0.000000" + heads_rule);
  CHECK(with("heads", "-3") == "model: heads is -3.000000" + heads_rule);
  CHECK(with("heads", "1.5") == "model: heads is 1.500000" + heads_rule);
  CHECK(load_error(good, {.heads = 7}) == "model: heads is 7.000000" + heads_rule);
  CHECK(with("heads", "3,3") == "model: metadata \"heads\" has 2 numbers; it must have 1");
  CHECK(with("mean", "1,2,3") == "model: \"mean\" has 3 numbers; it must have 1 or, one per channel, 2");
  CHECK(with("ln_eps", "-1") == "model: ln_eps is -1.000000; it must be finite and at least 0");
  CHECK(with("pixel_max", "0") == "model: pixel_max is 0.000000; it must be finite and above 0");
  CHECK(with("std", "1,0") == "model: std is 0.000000; it must be finite and above 0");
  for (const char* const text : {"", "x", "1,", ",1", "1 2", "nan", "inf", "1e99"}) {
    CHECK(with("mean", text) ==
          "model: metadata \"mean\" is \"" + std::string(text) + "\"; it must be numbers separated by commas");
  }
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(load_error(good, {.mean = {infinity}}) == "model: mean is inf; it must be finite and a number");

  stored_model bare = good;
  bare.metadata = {{"std", "1"}, {"heads", "3"}};
  CHECK(load_error(bare) == "model: metadata \"mean\" is missing, and no option takes its place");
  bare.metadata = {{"std", "1"}, {"mean", "0"}};  // 12 / 64 heads
  CHECK(load_error(bare) == "model: heads is 0.187500" + heads_rule);
}

TEST_CASE("forward: classifies as well as in PyTorch [digits]", "[float_vit]") {
  const std::filesystem::path folder =
      std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "examples" / "data";
  if (!std::filesystem::exists(folder)) {
    intact_test::report_skipped("this program's source folder is not here");
    return;
  }
  const safetensors_file weights = safetensors_file::read(folder / "digits_vit.safetensors");
  const float_vit model = load_float_vit(weights);
  CHECK(model.shape.channels == 1);
  CHECK(model.shape.height == 8);
  CHECK(model.shape.patch == 2);
  CHECK(model.shape.width == 64);
  CHECK(model.shape.heads == 4);
  CHECK(model.shape.hidden == 128);
  CHECK(model.shape.depth == 4);
  CHECK(model.shape.classes == 10);

  const safetensors_file data = safetensors_file::read(folder / "digits.safetensors");
  const auto images = data.values<std::uint8_t>("images"), labels = data.values<std::uint8_t>("labels");
  int correct = 0, tested = 0;
  for (std::size_t n = 0; n < labels.size(); n += 5) {  // the images that the model was not trained on
    const std::vector<float> logits = intact::forward(model, intact::planar_image(images.data() + 64 * n, 1, 8, 8));
    correct += std::max_element(logits.begin(), logits.end()) - logits.begin() == labels[n];
    ++tested;
  }
  CHECK(correct == std::lround(std::stod(weights.metadata_value("test_accuracy")) * tested));
}

TEST_CASE("load_float_vit: loads and runs DeiT-Tiny", "[float_vit][data]") {
  if (data_directory().empty()) {
    intact_test::report_skipped("INTACT_DATA_DIR names no folder of models");
    return;
  }
  const float_vit model =
      load_float_vit(safetensors_file::read(data_directory() / "deit_tiny" / "model.safetensors"),
                     {.mean = {0.485f, 0.456f, 0.406f}, .standard_deviation = {0.229f, 0.224f, 0.225f}});
  CHECK(model.shape.channels == 3);
  CHECK(model.shape.height == 224);
  CHECK(model.shape.image_width == 224);
  CHECK(model.shape.patch == 16);
  CHECK(model.shape.width == 192);
  CHECK(model.shape.heads == 3);
  CHECK(model.shape.hidden == 768);
  CHECK(model.shape.depth == 12);
  CHECK(model.shape.classes == 1000);
  const std::vector<std::uint8_t> pixels = random_pixels(3 * 224 * 224);
  int tensors = 0;
  const auto count = [&](const trace_site&, const float_matrix& tensor) { tensors += tensor.allFinite(); };
  const std::vector<float> logits =
      intact::forward(model, intact::interleaved_image(pixels.data(), 3, 224, 224), count);
  CHECK(logits.size() == 1000);
  CHECK(all_finite(logits));
  CHECK(tensors == 4 + 12 * (10 + 2 * 3) + 2);
}

}  // namespace intact_test::float_vit_test
