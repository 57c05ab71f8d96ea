// tool_tic: what a TiC is (info: parameters and multiply-adds), what it says (predict), where it
// looks (attention, receptive-field), what it takes (bench), and the same for other programs
// (export).
#include <cstdio>

#include "apps/program/dry_run.h"
#include "apps/program/main.h"
#include "apps/tic/model_choice.h"
#include "apps/tic/tool_verbs.h"
#include "apps/tic/training.h"

namespace mullion {
namespace {

OptionTable info_table() {
  OptionTable table("tool_tic info",
                    "Parameters and multiply-adds (MACs) of a model, by image size.");
  add_architecture_choice(table);
  table
      .add("model.img_size", "--img-size", std::vector<int>{},
           "sizes (default: 224,384,512,1024; tic-n: 32)")
      .range(1, 1 << 14);
  table.add_common_without(true, true);
  return table;
}

TicConfig new_config(const Options& options) {
  const TicConfig preset = tic_preset(options.get<std::string>("model.name"));
  return tic_config_of(options, preset.num_classes, nullptr, usual_size(preset));
}

Outcome info(const Options& options) {
  const TicConfig config =
      options.has("model.checkpoint")
          ? load_tic(options.get<std::string>("model.checkpoint"), false).description.config
          : new_config(options);
  Tic model(config);
  const int64_t params = parameter_count(named_parameters(model));
  auto sizes = options.get<std::vector<int>>("model.img_size");
  if (sizes.empty())
    sizes = config.preset == "tic-n" ? std::vector<int>{32} : std::vector<int>{224, 384, 512, 1024};
  char line[160];
  std::snprintf(line, sizeof line, "%s: %.3f M parameters\n", config.title().c_str(),
                static_cast<double>(params) / 1e6);
  print_text(options, line);
  std::vector<JsonObject> by_size;
  for (const int size : sizes) {
    const int64_t macs = tic_macs(config, size, size);
    std::snprintf(line, sizeof line, "  %5d x %-5d %10.4f GMACs\n", size, size,
                  static_cast<double>(macs) / 1e9);
    print_text(options, line);
    by_size.push_back(JsonObject().set("img_size", size).set("macs", macs));
  }
  return JsonObject()
      .set("model", config.name())
      .set("params", params)
      .set("macs", tic_macs(config, sizes[0], sizes[0]))
      .set("sizes", by_size);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  using namespace mullion;
  return run_program(argc, argv, "Looks into a TiC: its size, its answers, what it looks at.",
                     without_dry_run({{info_table(), info},
                                      predict_verb(),
                                      attention_verb(),
                                      receptive_field_verb(),
                                      bench_verb(),
                                      export_verb()}));
}
