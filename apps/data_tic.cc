// data_tic: images for TiC. prepare: ImageNet's archives into class folders. check and stats: every
// image opened. pack: class folders into shards. cue: the generated task of the demo, written as a
// folder of PNG files.
#include <filesystem>

#include "apps/program/dry_run.h"
#include "apps/program/log.h"
#include "apps/program/main.h"
#include "apps/tic/data_verbs.h"
#include "data/cue_task.h"

namespace mullion {
namespace {

OptionTable cue_table() {
  OptionTable table("data_tic cue",
                    "Writes scenes of the cue task as image folders (train and val).");
  table.add_optional<std::string>("data.output", "--output", "folder to make").required();
  table.add("data.per_class", "--per-class", 100, "images a class and split").range(1, 1000000);
  table.add("data.img_size", "--img-size", 32, "side of the canvas, pixels").range(32, 4096);
  table.add_common_without(false, true);
  return table;
}

Outcome cue(const Options& options) {
  const std::filesystem::path root = options.get<std::string>("data.output");
  const int per_class = options.get<int>("data.per_class"),
            size = options.get<int>("data.img_size");
  CHECK_AS(Fault::usage, !std::filesystem::exists(root) || std::filesystem::is_empty(root),
           "--output: ", root.string(), " is not empty");
  const CueOptions scene{size, size, false};
  write_cue_folder((root / "train").string(), scene, per_class, options.seed());
  write_cue_folder((root / "val").string(), scene, per_class, options.seed() + 1);
  log_info("wrote ", 2 * per_class * kCueClasses, " images to ", root.string());
  return JsonObject().set("output", root.string()).set("images", 2 * per_class * kCueClasses);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  using namespace mullion;
  return run_program(
      argc, argv, "Prepares images.",
      without_dry_run(
          {prepare_verb(), check_verb(), pack_verb(), stats_verb(), {cue_table(), cue}}));
}
