// Vision transformers on images, in integers: quantizes a float checkpoint, classifies images, measures accuracy,
// tells how much error each kind of quantized tensor makes, and shows attention. docs/accuracy.md has the figures and
// the commands.

#include <cstdio>
#include <exception>
#include <new>

#include <CLI/CLI.hpp>

#include "deit/attention_command.hpp"
#include "deit/budget_command.hpp"
#include "deit/classify_command.hpp"
#include "deit/convert_command.hpp"
#include "deit/embed_command.hpp"
#include "deit/evaluate_command.hpp"
#include "deit/inspect_command.hpp"
#include "deit/quantize_command.hpp"
#include "program_pages.hpp"

namespace {

constexpr const char* description = "Vision transformers (ViT, DeiT, Swin) in integers.";

constexpr const char* examples =
    "Examples:\n"
    "  intact-deit quantize --weights model.safetensors --calibration images/ -o model.intact.safetensors\n"
    "  intact-deit convert calibrated.safetensors -o model.intact.safetensors\n"
    "  intact-deit classify --model model.intact.safetensors cat.jpg\n"
    "  intact-deit embed --model features.intact.safetensors cat.jpg -o features.npy\n"
    "  intact-deit evaluate --model model.intact.safetensors --float model.safetensors --images images/\n"
    "  intact-deit budget --weights model.safetensors --calibration images/ --evaluation images/\n"
    "  intact-deit attention --model model.intact.safetensors --float model.safetensors --image cat.jpg -o maps.json\n"
    "  intact-deit inspect model.intact.safetensors\n"
    "\n"
    "Exit code: 0; 1 some images could not be read; 2 anything else went wrong.";

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(description, "intact-deit");
  app.footer(examples);
  app.require_subcommand(1);
  intact_examples::add_version_and_pages(app);
  intact_deit::quantize_command quantize(app);
  intact_deit::convert_command convert(app);
  intact_deit::classify_command classify(app);
  intact_deit::embed_command embed(app);
  intact_deit::evaluate_command evaluate(app);
  intact_deit::budget_command budget(app);
  intact_deit::attention_command attention(app);
  intact_deit::inspect_command inspect(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    return quantize.chosen()   ? quantize.run()
           : convert.chosen()  ? convert.run()
           : classify.chosen() ? classify.run()
           : embed.chosen()    ? embed.run()
           : evaluate.chosen() ? evaluate.run()
           : budget.chosen()   ? budget.run()
           : inspect.chosen()  ? inspect.run()
                               : attention.run();
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "intact-deit: there is not enough memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "intact-deit: %s\n", error.what());
  }
  return 2;
}
