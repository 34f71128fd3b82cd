#pragma once

#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include <CLI/CLI.hpp>

#include "file_errors.hpp"
#include "given_options.hpp"
#include "intact/build/recipe.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/quantize/float_swin.hpp"

// The arguments that choose an integer graph: a recipe, bits, and every part of the recipe by itself.

namespace intact_deit {

/// Bits of weights, activations and attention.
struct bit_widths {
  int weights = 8;
  int activations = 8;
  int attention = 4;

  /// From "8/8/4" and the like.
  static bit_widths parse(const std::string& text) {
    for (const int w : {4, 8}) {
      for (const int a : {4, 8}) {
        if (text == std::to_string(w) + "/8/" + std::to_string(a)) {
          return {.weights = w, .activations = 8, .attention = a};
        }
      }
    }
    throw std::invalid_argument("--bits is \"" + text + "\"; it must be 8/8/8, 8/8/4, 4/8/8 or 4/8/4");
  }
};

class recipe_arguments {
 public:
  void add_to(CLI::App& app) {
    const std::string group = "Integer graph";
    app.add_option("--profile", name_, "paper: FQ-ViT as published; precise: the same kernels with less error")
        ->capture_default_str()
        ->check(CLI::IsMember({"paper", "precise"}))
        ->group(group);
    app.add_option("--bits", bits_, "of weights, activations and attention: 8/8/4, 8/8/8, 4/8/4 or 4/8/8")
        ->capture_default_str()
        ->group(group);
    app.add_option("--weight-group", weight_group_, "columns of 4-bit weights that share a power of two; 0: none do")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber)
        ->group(group);
    add_parts(app);
  }

  intact::quantization_recipe recipe() const {
    const bit_widths bits = bit_widths::parse(bits_);
    intact::quantization_recipe p = name_ == "paper"
                                        ? (bits.attention == 4 ? intact::paper_recipe : intact::paper_recipe_888)
                                        : (bits.attention == 4 ? intact::precise_recipe : intact::precise_recipe_888);
    if (bits.weights == 4) {
      p.weights = weight_group_ == 0 ? intact::weight_kind::s4 : intact::weight_kind::grouped_s4;
    }
    p.weight_group = weight_group_ == 0 ? p.weight_group : weight_group_;
    p.attention = attention_.value_or(p.attention);
    p.probabilities = tail_.value_or(p.probabilities);
    p.exponential = exponential_.value_or(p.exponential);
    p.rounding = rounding_.value_or(p.rounding);
    p.normalize_rows = normalize_rows_.value_or(p.normalize_rows);
    p.stream = stream_.value_or(p.stream);
    p.pixel_codes = pixel_codes_.value_or(p.pixel_codes);
    intact::require_recipe(p, choice_names());
    return p;
  }

  /// Refuses parts of a graph that a model cannot have.
  static void require_possible(const intact::float_vit&, const intact::quantization_recipe&) {}
  static void require_possible(const intact::float_swin& model, const intact::quantization_recipe& recipe) {
    const bool packed = recipe.probabilities == intact::attention_code::u4_clipped;
    for (intact::index_t s = 0; packed && s < model.shape.stages; ++s) {
      if (model.shape.of(s).depth > 1 && model.shape.block(s, 1).attention.grid.shift != 0) {
        throw not_of_swin("--tail clip", "shifted windows mask keys, for which clipped codes have no weight 0");
      }
    }
  }

  const std::string& name() const { return name_; }
  const std::string& bits() const { return bits_; }

  /// The same with another recipe or other bits.
  recipe_arguments with(const std::string& name, const std::string& bits) const {
    recipe_arguments other = *this;
    other.name_ = name;
    other.bits_ = bits;
    return other;
  }

  /// The options, of those that were given, that choose the graph.
  std::string source(const CLI::App& app) const {
    return source_of(app, {"--profile", "--bits", "--weight-group", "--attention", "--tail", "--exponential",
                           "--rounding", "--normalize-rows", "--stream", "--pixel-codes"});
  }

  /// For a note in the model's file.
  std::string description() const { return name_ + ' ' + bits_; }

 private:
  static intact::recipe_choice_names choice_names() {
    return {.normalized = "--normalize-rows yes",
            .not_normalized = "--normalize-rows no",
            .exact = "--exponential exact",
            .round_log = "--rounding sqrt2",
            .log2_of_sum = "--attention log2-of-sum",
            .u8_full = "--tail wide, or --profile paper with 8 bits of attention",
            .u8_masked = "--tail zero"};
  }

  void add_parts(CLI::App& app) {
    add(app, "--attention", attention_, "what attention weights are",
        {{"log2-of-sum", intact::attention_kind::log2_of_sum},
         {"log2-of-max", intact::attention_kind::log2_of_max},
         {"weights", intact::attention_kind::weights},
         {"weight-codes", intact::attention_kind::weight_codes}});
    add(app, "--tail", tail_, "small log2 codes: zero, clipped at 15, or 8 bits wide",
        {{"zero", intact::attention_code::u8_masked},
         {"clip", intact::attention_code::u4_clipped},
         {"wide", intact::attention_code::u8_full}});
    add(app, "--exponential", exponential_, "of log2-of-sum: I-BERT's polynomial, or true exponentials",
        {{"i-exp", intact::exponential_kind::i_exp}, {"exact", intact::exponential_kind::exact}});
    add(app, "--rounding", rounding_, "of log2-of-sum: where a code ends and the next begins",
        {{"1.5", intact::log2_rounding::round_ratio}, {"sqrt2", intact::log2_rounding::round_log}});
    add(app, "--normalize-rows", normalize_rows_, "divide rows of attention by their sums",
        {{"yes", true}, {"no", false}});
    add(app, "--stream", stream_, "codes of the residual stream",
        {{"u8", intact::stream_codes::u8}, {"s16", intact::stream_codes::s16}});
    add(app, "--pixel-codes", pixel_codes_, "pixels are codes, normalization is part of the weights",
        {{"yes", true}, {"no", false}});
  }

  template <class Value>
  static void add(CLI::App& app, const std::string& name, std::optional<Value>& value, const std::string& what,
                  const std::map<std::string, Value>& choices) {
    app.add_option_function<std::string>(
           name, [&value, choices](const std::string& choice) { value = choices.at(choice); }, what)
        ->check(CLI::IsMember(choices))
        ->group("Parts of the graph, in place of --profile's");
  }

  std::string name_ = "precise", bits_ = "8/8/4";
  intact::index_t weight_group_ = 32;
  std::optional<intact::attention_kind> attention_;
  std::optional<intact::attention_code> tail_;
  std::optional<intact::exponential_kind> exponential_;
  std::optional<intact::log2_rounding> rounding_;
  std::optional<bool> normalize_rows_, pixel_codes_;
  std::optional<intact::stream_codes> stream_;
};

}  // namespace intact_deit
