// eval_tic: the accuracy of a trained TiC on a folder of images (or on the generated cue task), at
// any number of sizes. No parameter depends on the size, so one set of weights serves them all.
#include <charconv>
#include <cstdio>

#include "apps/options/device.h"
#include "apps/program/log.h"
#include "apps/program/main.h"
#include "apps/program/signals.h"
#include "apps/tic/evaluate.h"
#include "apps/tic/image_data.h"
#include "apps/tic/model_folder.h"
#include "data/cue_task.h"
#include "tensor/io/file.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

struct Size {
  int height, width;
  std::string text() const {
    return height == width ? std::to_string(height) : concat(height, "x", width);
  }
};

// "224" or "224x320" (height x width)
Size parse_size(const std::string& text) {
  const char* const end = text.data() + text.size();
  const auto number = [&](const char*& at) {
    int value = 0;
    const auto [stop, error] = std::from_chars(at, end, value);
    CHECK_AS(Fault::usage, error == std::errc() && value > 0 && value <= kMostImageSide,
             "--img-size: ", text, ", expected e.g. 224 or 224x320, each from 1 to ",
             kMostImageSide);
    at = stop;
    return value;
  };
  const char* at = text.data();
  const int height = number(at);
  int width = height;
  if (at != end && *at == 'x') width = number(++at);
  CHECK_AS(Fault::usage, at == end, "--img-size: ", text, ", expected e.g. 224 or 224x320");
  return {height, width};
}

OptionTable make_table() {
  OptionTable table("eval_tic", "Accuracy of a trained TiC on images, at one or several sizes.");
  table
      .add_optional<std::string>("data.dir", "--data-dir",
                                 "class folders or shards, or \"cue\" for generated scenes")
      .required();
  table.add("data.val_split", "--val-split", "",
            "folder below --data-dir (default: val, else test, else --data-dir itself)");
  table.add_optional<std::string>("model.checkpoint", "--checkpoint", "model folder or run")
      .required();
  table.add("model.use_ema", "--use-ema", false, "the averaged weights");
  table.add("data.img_size", "--img-size", std::vector<std::string>{},
            "sizes, e.g. 160,224,224x320 (default: the model's)");
  table
      .add_optional<double>("data.crop_pct", "--crop-pct",
                            "share of the image kept by the centre crop")
      .range(0.01, 1);
  add_exif_option(table);
  add_folder_options(table);
  table.add("data.batch_size", "-b,--batch-size", 64, "images a step").at_least(1);
  table.add("data.workers", "-j,--workers", 1, "threads that read images").range(0, 256);
  table.add("data.cue_count", "--cue-count", 1000, "scenes of the cue task").at_least(1);
  table.add("data.cue_seed", "--cue-seed", 1000003, "seed of the cue task's scenes");
  table.add_optional<std::string>("log.results_file", "--results-file", "CSV file, a row a size");
  add_amp_option(table);
  table.add_common();
  return table;
}

// The sizes asked for, all checked before the first is evaluated.
std::vector<Size> sizes_of(const Options& o, const TicDescription& d) {
  std::vector<Size> sizes;
  for (const auto& text : o.get<std::vector<std::string>>("data.img_size")) {
    const Size size = parse_size(text);
    CHECK_AS(Fault::usage,
             o.get<std::string>("data.dir") != "cue" || (size.height >= 32 && size.width >= 32),
             "--img-size: ", size.text(), ": a scene of the cue task has at least 32x32 pixels");
    sizes.push_back(size);
  }
  if (sizes.empty()) sizes.push_back({d.img_size, d.img_size});
  return sizes;
}

// `folder`: null for the cue task.
std::unique_ptr<Dataset> dataset(const Options& o, const TicDescription& d, Size size,
                                 const std::shared_ptr<const ImageSource>& folder) {
  if (!folder) {
    return std::make_unique<CueDataset>(CueOptions{size.height, size.width, false},
                                        o.get<int64_t>("data.cue_count"),
                                        o.get<uint64_t>("data.cue_seed"), false);
  }
  return std::make_unique<ImageDataset>(folder, d.transform(size.height, size.width), d.exif);
}

JsonObject result_of(const Accuracy& a, const Size& size) {
  JsonObject result;
  result.set("top1", a.top1).set("top5", a.top5).set("loss", a.loss).set("count", a.count);
  if (size.height == size.width)
    result.set("img_size", size.height);
  else
    result.set("img_size", size.text());
  return result;
}

Outcome run(const Options& options) {
  set_num_threads(options.threads());
  LoadedTic loaded = load_tic(options.get<std::string>("model.checkpoint"),
                              options.get<bool>("model.use_ema"), device_of(options));
  if (options.has("data.crop_pct"))
    loaded.description.crop_pct = options.get<float>("data.crop_pct");
  TicDescription& description = loaded.description;
  std::shared_ptr<const ImageSource> folder;
  if (options.get<std::string>("data.dir") != "cue") {
    description.exif = exif_of(options, description);
    const std::filesystem::path root = options.get<std::string>("data.dir");
    folder = open_images(root, validation_split(root, options.get<std::string>("data.val_split")),
                         folder_options(options, &description.classes));
    tell_of(*folder);
  }
  NoteTeller notes;
  loaded.model->set_compute_type(apply_amp(options, loaded.model->device()));
  const std::vector<Size> sizes = sizes_of(options, loaded.description);
  std::string csv =
      "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation\n";
  if (options.has("log.results_file"))  // now, not after the work
    AtomicFile probe(options.get<std::filesystem::path>("log.results_file"));
  const double millions =
      static_cast<double>(parameter_count(named_parameters(*loaded.model))) / 1e6;
  std::vector<JsonObject> results;
  for (const Size& size : sizes) {
    explain_cost(loaded.description.config, size.height, size.width);
    const auto data = dataset(options, description, size, folder);
    const Accuracy a = evaluate(*loaded.model, *data, options.get<int>("data.batch_size"),
                                options.get<int>("data.workers"), "eval " + size.text());
    char line[160];
    std::snprintf(line, sizeof line, " * %s: Acc@1 %.3f (%.3f) Acc@5 %.3f (%.3f), %lld images",
                  size.text().c_str(), a.top1, 100 - a.top1, a.top5, 100 - a.top5,
                  static_cast<long long>(a.count));
    for (const std::string& message : a.messages) log_warning(message, "; left out");
    notes.tell(data->notes());
    notes.tell_totals(data->notes(), "images");
    print_result(options,
                 line + (a.unreadable ? concat(", ", a.unreadable, " unreadable") : std::string()));
    results.push_back(result_of(a, size));
    if (folder)
      results.back().set("not_taken", not_taken(*folder)).set("notes", notes_of(data->notes()));
    if (!a.complete) return Outcome(results.back(), kExitStopped);
    csv +=
        concat(loaded.description.config.preset, ",", size.text(), ",", a.top1, ",", 100 - a.top1,
               ",", a.top5, ",", 100 - a.top5, ",", millions, ",", loaded.description.crop_pct, ",",
               to_name(loaded.description.interpolation), "\n");
    if (options.has("log.results_file"))
      write_whole_file(options.get<std::filesystem::path>("log.results_file"), csv);
  }
  if (results.size() == 1) return results[0];
  return JsonObject().set("results", results);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  return mullion::run_program(argc, argv, mullion::make_table(), mullion::run);
}
