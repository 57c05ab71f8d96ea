// tool_tic predict: what a TiC says of images, one by one. It goes on after an image that cannot be
// read; the exit code then is that of a bad file.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <numeric>

#include "apps/options/device.h"
#include "apps/program/csv.h"
#include "apps/program/log.h"
#include "apps/tic/class_names.h"
#include "apps/tic/image_data.h"
#include "apps/tic/model_choice.h"
#include "apps/tic/tool_verbs.h"
#include "autograd/ops.h"
#include "data/decode.h"
#include "data/folder_walk.h"
#include "data/image_subset.h"
#include "tensor/io/file.h"
#include "tensor/io/file_place.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
using Files = std::vector<std::string>;

// All pictures of a folder at any depth, in byte order; says what is none.
Files pictures_in(const std::string& folder) {
  FolderWalk walk(folder, true);
  Files files;
  for (const WalkedFile& file : walk.all_pictures())
    files.push_back((fs::path(folder) / file.name).string());
  CHECK_AS(Fault::bad_file, !files.empty(), printable(folder), ": no .jpg, .jpeg or .png in it");
  std::string others;
  for (const NotTaken& n : walk.not_taken())
    others += concat(", ", n.count, " ", n.kind, " (", printable(n.example), ") not taken");
  log_info(printable(folder), ": ", files.size(), " images", others);
  return files;
}

Files files_of(const Options& options) {
  Files named, files;
  if (options.has("data.images")) named = options.get<Files>("data.images");
  if (options.has("data.images_list"))
    each_listed_path(options.get<fs::path>("data.images_list"),
                     [&](const std::string& path, int64_t) { named.push_back(path); });
  if (named.empty())
    throw Error("no image: IMAGE or --images-list is needed", Fault::usage,
                "tool_tic predict --help");
  for (const std::string& name : named) {
    if (!fs::is_directory(name)) {
      files.push_back(name);
      continue;
    }
    const Files found = pictures_in(name);
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

std::string number(float probability) {
  char text[16];
  std::snprintf(text, sizeof text, "%.4f", probability);
  return text;
}

class Predictor {
 public:
  explicit Predictor(const Options& options)
      : options_(options),
        loaded_(checkpoint_model(options, device_of(options))),
        exif_(exif_of(options, loaded_.description)) {
    const TicDescription& d = loaded_.description;
    const int size = options.has("data.img_size") ? options.get<int>("data.img_size") : d.img_size;
    transform_ = d.transform(size, size);
    if (options.has("data.crop_pct")) transform_.crop_pct = options.get<float>("data.crop_pct");
    explain_cost(d.config, transform_.height, transform_.width);
    if (options.has("data.class_names"))
      loaded_.description.class_names = class_names(options, "", d.classes);
    named_ = !d.class_names.empty();
    csv_ += named_ ? ",name\n" : "\n";
    top_ = std::min(d.classes.size(), options.get<size_t>("eval.topk"));
    if (top_ < options.get<size_t>("eval.topk") && !options.is_default("eval.topk"))
      log_info("--topk ", options.get<size_t>("eval.topk"), ": the model has ", top_, " classes");
  }

  JsonObject image(const std::string& file) {
    const PictureFile picture(file, exif_);
    const Tensor input = raw::to_device(picture.input(transform_), loaded_.model->device());
    const auto p = softmax((*loaded_.model)(input)).to_vector<float>();
    const EncodedImage& encoded = picture.encoded;
    JsonObject result;
    result.set("file", file);
    tell(result, file, p);
    std::vector<std::string> notes = encoded.notes().texts();
    if (encoded.orientation() > 0) result.set("orientation", encoded.orientation());
    if (encoded.orientation() > 1 && exif_ == ExifUse::apply)
      notes.push_back(concat("turned by EXIF orientation ", encoded.orientation()));
    if (!notes.empty()) result.set("notes", notes);
    for (const std::string& note : notes) log_warning(printable(file), ": ", note);
    return result;
  }

  const std::string& csv() const { return csv_; }

 private:
  // The likeliest classes first, equal ones in the model's order.
  void tell(JsonObject& result, const std::string& file, const std::vector<float>& p) {
    const std::vector<std::string>& classes = loaded_.description.classes;
    std::vector<size_t> order(p.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
    std::vector<std::string> names, descriptions;
    std::vector<float> values;
    std::string line = printable(file) + ":";
    for (size_t rank = 0; rank < top_; ++rank) {
      const size_t c = order[rank];
      const std::string shown = loaded_.description.shown(c);
      names.push_back(classes[c]);
      if (named_) descriptions.push_back(loaded_.description.class_names[c]);
      values.push_back(p[c]);
      line += concat("  ", printable(shown), " ", number(p[c]));
      csv_ += concat(csv_field(file), ",", rank + 1, ",", csv_field(classes[c]), ",", p[c]);
      if (named_) csv_ += "," + csv_field(descriptions.back());
      csv_ += "\n";
    }
    const bool all = options_.get<bool>("log.probabilities");
    if (all)
      for (const size_t c : order)
        line += concat("\n  ", number(p[c]), "  ", printable(loaded_.description.shown(c)));
    print_text(options_, line + "\n");
    result.set(concat("top", options_.get<int64_t>("eval.topk")), names);
    if (named_) result.set("top_names", descriptions);
    result.set("top_probabilities", values);
    if (all) result.set("probabilities", p);
  }

  const Options& options_;
  LoadedTic loaded_;
  ExifUse exif_;
  EvalTransform transform_;
  size_t top_ = 0;
  bool named_ = false;
  std::string csv_ = "file,rank,class,probability";
};

OptionTable predict_table() {
  OptionTable table("tool_tic predict", "The most likely classes of images.");
  add_checkpoint_options(table);
  table.add_optional<int>("data.img_size", "--img-size", "side of the centre crop, pixels")
      .range(1, kMostImageSide);
  table
      .add_optional<double>("data.crop_pct", "--crop-pct",
                            "share of the image kept by the centre crop")
      .range(0.01, 1);
  add_exif_option(table);
  add_class_names_option(table, "the checkpoint's");
  table.add("eval.topk", "--topk", 5, "classes to name, the likeliest first").at_least(1);
  table.add("log.probabilities", "--probabilities", false,
            "also give the probabilities of all classes");
  table.add_optional<fs::path>("log.csv", "--csv",
                               "CSV file to write, a row for each image and named class");
  table.add_optional<fs::path>("data.images_list", "--images-list",
                               "text file with an image or a folder a line");
  table
      .add_optional<Files>("data.images", "IMAGE",
                           "JPEG and PNG files, or folders with such files at any depth")
      .whole();
  table.add_common_without(true, false);
  return table;
}

Outcome predict(const Options& options) {
  const Files files = files_of(options);
  if (options.has("log.csv"))
    check_file_place(options.get<fs::path>("log.csv"));  // before the work
  NoGrad no_grad;
  Predictor predictor(options);
  std::vector<JsonObject> images;
  std::string first_error;
  int64_t unreadable = 0;
  for (const std::string& file : files) {
    try {
      images.push_back(predictor.image(file));
    } catch (const Error& error) {
      if (error.fault() != Fault::bad_file) throw;
      ++unreadable;
      if (first_error.empty()) first_error = error.what();
      images.push_back(JsonObject().set("file", file).set("error", error.what()));
      log_line(LogLevel::quiet, concat("error: ", error.what()));
    }
  }
  if (options.has("log.csv")) write_whole_file(options.get<fs::path>("log.csv"), predictor.csv());
  JsonObject result;
  result.set("images", images);
  if (unreadable == 0) return result;
  if (files.size() > 1)
    log_line(LogLevel::quiet,
             concat("error: ", unreadable, " of ", files.size(), " images could not be read"));
  const int code = static_cast<int>(Fault::bad_file);
  result.set("error", first_error).set("unreadable", unreadable).set("exit_code", code);
  return Outcome(result, code);
}
}  // namespace

Verb predict_verb() { return {predict_table(), predict}; }

}  // namespace mullion
