// eval_tic: the accuracy of a trained TiC on a folder of images (or on the generated cue task), at
// any number of sizes. No parameter depends on the size, so one set of weights serves them all.
#include <charconv>
#include <cstdio>

#include "apps/options/amp.h"
#include "apps/options/device.h"
#include "apps/program/dry_run.h"
#include "apps/program/log.h"
#include "apps/program/main.h"
#include "apps/program/signals.h"
#include "apps/run/ranks.h"
#include "apps/tic/class_names.h"
#include "apps/tic/evaluate.h"
#include "apps/tic/image_data.h"
#include "apps/tic/judgement_pictures.h"
#include "apps/tic/model_choice.h"
#include "apps/tic/results_file.h"
#include "data/cue_task.h"
#include "data/image_contents.h"
#include "data/image_subset.h"
#include "tensor/io/file.h"
#include "tensor/io/file_place.h"

namespace mullion {
namespace {

using Path = std::filesystem::path;

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

// As asked for; else as the file's ending says.
std::string results_format(const Options& options) {
  const auto asked = options.get<std::string>("log.results_format");
  const std::string ending = options.get<Path>("log.results_file").extension().string();
  if (!options.is_default("log.results_format")) return asked;
  return ending == ".json" || ending == ".md" ? ending.substr(1) : asked;
}

OptionTable make_table() {
  OptionTable table("eval_tic", "Accuracy of a trained TiC on images, at one or several sizes.");
  table
      .add_optional<std::string>("data.dir", "--data-dir",
                                 "class folders or shards, or \"cue\" for generated scenes")
      .required();
  table.add("data.val_split", "--val-split", "",
            "folder below --data-dir (default: val, else test, else --data-dir itself)");
  add_checkpoint_options(table);
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
  table.add("data.cue_seed", "--cue-seed", 1000003, "seed of the cue task's scenes").any_integer();
  table.add_optional<Path>("data.images_list", "--images-list",
                           "text file with the images to evaluate, a path a line");
  table.add_optional<Path>("data.real_labels", "--real-labels",
                           "ReaL's real.json: all labels that are right for ImageNet's val images");
  add_class_names_option(table, "the checkpoint's, else such a file in --data-dir");
  table.add("log.topk", "--topk", std::vector<int64_t>{1, 5}, "k of the top-k accuracies")
      .at_least(1);
  table.add("log.per_class", "--per-class", false, "also the result of each class");
  table.add_optional<Path>("log.confusion", "--confusion",
                           "CSV file to write: images by true and predicted class");
  table.add_optional<Path>("log.confusion_picture", "--confusion-picture",
                           "SVG file to write: the same in colours");
  table.add_optional<Path>("log.reliability", "--reliability",
                           "SVG file to write: accuracy over confidence");
  table.add_optional<Path>("log.results_file", "--results-file",
                           "file to write, a row a size, in timm's columns");
  table
      .add("log.results_format", "--results-format", "csv",
           "of that file, unless .json or .md says it")
      .one_of({"csv", "json", "md"});
  add_amp_option(table);
  tie_to_scenes(
      table, {"data.cue_count", "data.cue_seed"},
      {"data.val_split", "data.crop_pct", "data.exif", "data.follow_links", "data.class_names"});
  add_rank_options(table);
  table.add_common_without(true, false);
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
    for (const Size& other : sizes)
      CHECK_AS(Fault::usage, other.text() != size.text(), "--img-size: ", size.text(),
               " is there twice");
    sizes.push_back(size);
  }
  if (sizes.empty()) sizes.push_back({d.img_size, d.img_size});
  return sizes;
}

// A scene's label is a place in the list of its own classes.
void require_classes_of_scenes(const Options& o, const TicDescription& d) {
  const std::vector<std::string>& scenes = cue_class_names();
  CHECK_AS(Fault::bad_file, d.classes == scenes, o.get<std::string>("model.checkpoint"), ": its ",
           d.classes.size(), " classes (", listing(d.classes), ") are not the ", scenes.size(),
           " of the cue task (", listing(scenes), ")");
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

void add_classes(const Options& options, JsonObject& result, const Accuracy& a,
                 const TicDescription& d) {
  std::vector<JsonObject> rows;
  const auto classes = per_class(a.judged, std::ssize(d.classes));
  for (size_t c = 0; c < d.classes.size(); ++c) {
    const auto percent = [](std::optional<double> share) {
      char text[16] = "    none";
      if (share) std::snprintf(text, sizeof text, "%6.2f %%", *share);
      return std::string(text);
    };
    char images[32];
    std::snprintf(images, sizeof images, "%8lld", static_cast<long long>(classes[c].count));
    print_text(options,
               concat(images, " images  recall ", percent(classes[c].recall()), "  precision ",
                      percent(classes[c].precision()), "  ", printable(d.shown(c)), "\n"));
    rows.push_back(JsonObject().set("class", d.classes[c]).set("count", classes[c].count));
    for (const auto& [key, share] :
         {std::pair{"recall", classes[c].recall()}, {"precision", classes[c].precision()}})
      share ? rows.back().set(key, *share) : rows.back().set_null(key);
    if (!d.class_names.empty()) rows.back().set("name", d.class_names[c]);
  }
  result.set("per_class", rows);
}

// What the options ask for beyond top-1 and top-5; `real`: where --real-labels are given.
void add_judgement(const Options& options, JsonObject& result, const Accuracy& a,
                   const TicDescription& d, const std::optional<RealLabels>& real_labels) {
  for (const int64_t k : options.get<std::vector<int64_t>>("log.topk"))
    result.set(concat("top", k), topk_accuracy(a.judged, k));
  const Calibration c = calibration(a.judged);
  std::vector<JsonObject> bins;
  for (const Calibration::Bin& bin : c.bins)
    bins.push_back(JsonObject()
                       .set("count", bin.count)
                       .set("confidence", bin.confidence)
                       .set("accuracy", bin.accuracy));
  result.set("ece", c.error).set("calibration", bins);
  if (real_labels) {
    const RealAccuracy real = real_accuracy(a.judged, *real_labels);
    result.set("real_top1", real.accuracy).set("real_count", real.count);
    print_result(options, concat("   ReaL: Acc@1 ", real.accuracy, ", ", real.count, " images"));
  }
  if (options.get<bool>("log.per_class")) add_classes(options, result, a, d);
  if (!is_first_rank()) return;  // who writes the files
  std::vector<std::string> names;
  for (size_t i = 0; i < d.classes.size(); ++i) names.push_back(d.shown(i));
  if (options.has("log.confusion"))
    write_whole_file(options.get<Path>("log.confusion"), confusion_csv(a.judged, names));
  if (options.has("log.confusion_picture"))
    write_whole_file(options.get<Path>("log.confusion_picture"), confusion_svg(a.judged, names));
  if (options.has("log.reliability"))
    write_whole_file(options.get<Path>("log.reliability"), reliability_svg(c));
}

// Paths that are written at the end are tried now, not after the work.
void check_options(const Options& options, size_t sizes) {
  const bool cue = options.get<std::string>("data.dir") == "cue";
  for (const auto& [key, flag] :
       {std::pair{"data.images_list", "--images-list"}, {"data.real_labels", "--real-labels"}})
    CHECK_AS(Fault::usage, !cue || !options.has(key), flag, ": the cue task has no image files");
  for (const auto& [key, flag] : {std::pair{"log.confusion", "--confusion"},
                                  {"log.confusion_picture", "--confusion-picture"},
                                  {"log.reliability", "--reliability"}})
    CHECK_AS(Fault::usage, sizes == 1 || !options.has(key), flag, ": one file, and ", sizes,
             " sizes are evaluated");
  CHECK_AS(Fault::usage,
           options.has("log.results_file") || options.is_default("log.results_format"),
           "--results-format: without --results-file nothing is written");
  for (const auto& [key, ending] : {std::pair{"log.confusion", ""},
                                    {"log.confusion_picture", ".svg"},
                                    {"log.reliability", ".svg"},
                                    {"log.results_file", ""}})
    if (options.has(key)) check_file_place(options.get<Path>(key), ending);
}

JsonObject result_of(const Accuracy& a, const Size& size) {
  JsonObject result;
  result.set("top1", a.top1).set("top5", a.top5).set("loss", a.loss).set("count", a.count);
  result.set("complete", a.complete);
  if (size.height == size.width)
    result.set("img_size", size.height);
  else
    result.set("img_size", size.text());
  return result;
}

Outcome run(const Options& options) {
  LoadedTic loaded = checkpoint_model(options, device_of(options));
  TicDescription& description = loaded.description;
  if (options.has("data.crop_pct")) {
    const float share = options.get<float>("data.crop_pct");
    if (share != description.crop_pct)
      log_info("--crop-pct ", share, ": the model's is ", description.crop_pct);
    description.crop_pct = share;
  }
  std::shared_ptr<const ImageSource> folder;
  if (options.get<std::string>("data.dir") != "cue") {
    description.exif = exif_of(options, description);
    const std::filesystem::path root = options.get<std::string>("data.dir");
    folder = open_images(root, validation_split(root, options.get<std::string>("data.val_split")),
                         folder_options(options, &description.classes));
    if (options.has("data.images_list"))
      folder = std::make_shared<ImageSubset>(folder, options.get<Path>("data.images_list"));
    tell_of(*folder);
    if (ranks()) require_same_on_all_ranks({{"images", contents_digest(*folder)}});
    if (options.has("data.class_names") || description.class_names.empty())
      description.class_names = class_names(options, root, description.classes);
  } else {
    require_classes_of_scenes(options, description);
  }
  NoteTeller notes;
  loaded.model->set_compute_type(apply_amp(options, *loaded.model));
  for (const int64_t k : options.get<std::vector<int64_t>>("log.topk"))
    if (k >= std::ssize(description.classes))
      log_info("Acc@", k, ": the model has ", description.classes.size(),
               " classes, so that every image counts as right");
  const std::vector<Size> sizes = sizes_of(options, description);
  check_options(options, sizes.size());
  std::optional<RealLabels> real_labels;
  if (options.has("data.real_labels"))
    real_labels = read_real_labels(options.get<Path>("data.real_labels"), folder->file_names(),
                                   description.classes);
  catch_stop_signals();
  std::vector<ResultRow> rows;
  const double millions =
      static_cast<double>(parameter_count(named_parameters(*loaded.model))) / 1e6;
  std::vector<JsonObject> results;
  for (const Size& size : sizes) {
    if (size.height != description.img_size || size.width != description.img_size)
      log_info(size.text(), ": the model was trained at ", description.img_size);
    explain_cost(description.config, size.height, size.width);
    const auto data = dataset(options, description, size, folder);
    const Accuracy a = evaluate(*loaded.model, *data, options.get<int>("data.batch_size"),
                                options.get<int>("data.workers"), "eval " + size.text());
    std::string line = " * " + size.text() + ":";
    for (const int64_t k : options.get<std::vector<int64_t>>("log.topk")) {
      const double top = topk_accuracy(a.judged, k);
      char part[64];
      std::snprintf(part, sizeof part, " Acc@%lld %.3f (%.3f)", static_cast<long long>(k), top,
                    100 - top);
      line += part;
    }
    char part[64];
    std::snprintf(part, sizeof part, ", ECE %.2f %%, %lld images", calibration(a.judged).error,
                  static_cast<long long>(a.count));
    line += part;
    for (const std::string& message : a.messages) log_warning(message, "; left out");
    notes.tell(data->notes());
    notes.tell_totals(data->notes(), "images");
    if (a.unreadable) line += concat(", ", a.unreadable, " unreadable");
    print_result(options, line + (a.complete ? "" : "; stopped before the end"));
    results.push_back(result_of(a, size));
    if (folder)
      results.back().set("not_taken", not_taken(*folder)).set("notes", notes_of(data->notes()));
    if (!a.complete) break;
    add_judgement(options, results.back(), a, description, real_labels);
    rows.push_back({description.config.name(), size.text(), a.top1, a.top5, millions,
                    description.crop_pct, to_name(description.interpolation)});
    if (options.has("log.results_file") && is_first_rank())
      write_whole_file(options.get<Path>("log.results_file"),
                       results_text(results_format(options), rows));
  }
  const int code = rows.size() < sizes.size() ? kExitStopped : 0;
  if (sizes.size() == 1) return {results[0], code};
  return {JsonObject().set("results", results), code};
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  const mullion::Verb verb = mullion::without_dry_run({mullion::make_table(), mullion::run});
  return mullion::run_program(argc, argv, verb.table, verb.body);
}
