// config.json both ways, the folder that a path means, and the costs that an image's size brings.
#include "apps/tic/model_folder.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/program/log.h"
#include "apps/run/ranks.h"
#include "apps/run/run_checkpoint.h"
#include "apps/tic/class_names.h"
#include "data/image_folder.h"
#include "nn/state.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/sha256.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
constexpr const char* kInterpolations[] = {"bilinear", "bicubic"};

std::array<float, 3> three_numbers(const nlohmann::json& object, const std::string& file,
                                   const char* key) {
  const nlohmann::json* field = find_field(object, file, key);
  CHECK_AS(Fault::bad_file, field && field->is_array() && field->size() == 3, file, ": ", key,
           " is not a list of 3 numbers");
  std::array<float, 3> result{};
  for (size_t i = 0; i < 3; ++i) {
    CHECK_AS(Fault::bad_file, (*field)[i].is_number(), file, ": ", key, "[", i,
             "] is not a number");
    result[i] = (*field)[i].get<float>();
  }
  return result;
}

// The fields of both levels of config.json that are read, or that say nothing about the result.
void tell_unknown_fields(const nlohmann::json& json, const nlohmann::json& pretrained,
                         const std::string& file) {
  constexpr char kTop[] = R"(
      architecture num_classes num_features global_pool label_names exif model_args
      pretrained_cfg label_descriptions)";
  constexpr char kInner[] = R"(
      tag input_size fixed_input_size interpolation crop_pct crop_mode mean std num_classes
      pool_size first_conv classifier url file hf_hub_id hf_hub_filename source architecture
      license origin_url paper_name paper_ids description notes custom_load)";
  const auto tell = [&](const nlohmann::json& object, const std::vector<std::string>& known) {
    for (const auto& [key, value] : object.items())
      if (!value.is_null() && std::find(known.begin(), known.end(), key) == known.end())
        log_warning(file, ": ", key, " is not known and not used");
  };
  tell(json, words_in(kTop));
  tell(pretrained, words_in(kInner));
}

void tell_missing_fields(const nlohmann::json& args, const TicConfig& config,
                         const std::string& file) {
  const nlohmann::json all = tic_model_args(config);
  std::vector<std::string> missing;
  for (const auto& [key, value] : all.items())
    if (!args.contains(key)) missing.push_back(concat(key, " ", value.dump()));
  if (!missing.empty())
    log_warning(file, ": model_args leaves out what is then as in the preset ", config.preset, ": ",
                joined(missing));
}

// A field that may be left out, but not say anything else.
void expect_text(const nlohmann::json& object, const std::string& file, const char* key,
                 const char* value) {
  const std::string found = get_string_or(object, file, key, value);
  CHECK_AS(Fault::bad_file, found == value, file, ": ", key, ": ", found,
           " is not supported, only ", value);
}

}  // namespace

Interpolation interpolation_of(const std::string& name) {
  for (int i = 0; i < 2; ++i)
    if (name == kInterpolations[i]) return static_cast<Interpolation>(i);
  fail(Fault::usage, "interpolation: ", name, " is not one of bilinear, bicubic");
}

std::string to_name(Interpolation interpolation) {
  return kInterpolations[static_cast<int>(interpolation)];
}

ExifUse exif_use(const std::string& name) {
  CHECK_AS(Fault::usage, name == "ignore" || name == "apply", "exif: ", name,
           " is not one of ignore, apply");
  return name == "apply" ? ExifUse::apply : ExifUse::ignore;
}

std::string to_name(ExifUse use) { return use == ExifUse::apply ? "apply" : "ignore"; }

std::string TicDescription::shown(size_t label) const {
  return shown_class(classes[label], class_names.empty() ? "" : class_names[label]);
}

void write_tic_config(const fs::path& folder, const TicDescription& d) {
  const int64_t features = d.config.width(d.config.depths.size() - 1);
  const nlohmann::json pretrained = {{"tag", "mullion"},
                                     {"input_size", {d.config.in_chans, d.img_size, d.img_size}},
                                     {"fixed_input_size", false},
                                     {"interpolation", to_name(d.interpolation)},
                                     {"crop_pct", d.crop_pct},
                                     {"crop_mode", "center"},
                                     {"mean", d.normalization.mean},
                                     {"std", d.normalization.std},
                                     {"num_classes", d.config.num_classes},
                                     {"pool_size", nullptr},
                                     {"first_conv", "stem.conv"},
                                     {"classifier", "head"}};
  nlohmann::json names = nlohmann::json::object();
  for (size_t i = 0; i < d.class_names.size(); ++i)
    if (!d.class_names[i].empty()) names[d.classes[i]] = d.class_names[i];
  nlohmann::json config = {{"architecture", d.config.preset},
                           {"num_classes", d.config.num_classes},
                           {"num_features", features},
                           {"global_pool", "avg"},
                           {"label_names", d.classes},
                           {"exif", to_name(d.exif)},
                           {"model_args", tic_model_args(d.config)},
                           {"pretrained_cfg", pretrained}};
  if (!names.empty()) config["label_descriptions"] = names;
  write_json_file(folder / "config.json", config);
}

TicDescription read_tic_config(const fs::path& folder) {
  const std::string file = (folder / "config.json").string();
  require_whole(folder, {"config.json"});
  const nlohmann::json json = read_json_file(file);
  const nlohmann::json* own = find_field(json, file, "model_args");
  const nlohmann::json* pretrained = find_field(json, file, "pretrained_cfg");
  CHECK_AS(Fault::bad_file, own && own->is_object(), file, ": model_args is missing");
  CHECK_AS(Fault::bad_file, pretrained && pretrained->is_object(), file,
           ": pretrained_cfg is missing");
  tell_unknown_fields(json, *pretrained, file);
  expect_text(json, file, "global_pool", "avg");
  expect_text(*pretrained, file, "crop_mode", "center");
  TicDescription d;
  d.classes = get_strings(json, file, "label_names");
  nlohmann::json args = *own;
  args.emplace("num_classes", d.classes.size());  // where it is not among them
  d.config = tic_from_model_args(args, file);
  tell_missing_fields(args, d.config, file);
  for (const nlohmann::json* level : {&json, pretrained}) {
    const auto classes = static_cast<uint64_t>(d.config.num_classes);
    const uint64_t said = get_uint_or(*level, file, "num_classes", 1 << 24, classes);
    CHECK_AS(Fault::bad_file, said == classes, file, ": num_classes: ", said,
             ", but model_args says ", classes);
  }
  CHECK_AS(Fault::bad_file, static_cast<int64_t>(d.classes.size()) == d.config.num_classes, file,
           ": label_names has ", d.classes.size(), " names for ", d.config.num_classes, " classes");
  const nlohmann::json* names = find_field(json, file, "label_descriptions");
  if (names && !names->is_null()) {
    CHECK_AS(Fault::bad_file, names->is_object(), file,
             ": label_descriptions is no object of names by label");
    for (const std::string& id : d.classes) {
      const auto found = names->find(id);
      CHECK_AS(Fault::bad_file, found == names->end() || found->is_string(), file,
               ": label_descriptions: ", id, " is no text");
      d.class_names.push_back(found == names->end() ? "" : found->get<std::string>());
    }
  }
  d.normalization.mean = three_numbers(*pretrained, file, "mean");
  d.normalization.std = three_numbers(*pretrained, file, "std");
  for (const float s : d.normalization.std)
    CHECK_AS(Fault::bad_file, s > 0, file, ": std: ", s, " is not positive");
  d.crop_pct = static_cast<float>(get_number(*pretrained, file, "crop_pct"));
  CHECK_AS(Fault::bad_file, d.crop_pct > 0 && d.crop_pct <= 1, file, ": crop_pct: ", d.crop_pct,
           ", expected above 0 and at most 1");
  const std::string interpolation = get_string(*pretrained, file, "interpolation"),
                    exif = get_string_or(json, file, "exif", to_name(d.exif));
  try {
    d.interpolation = interpolation_of(interpolation);
    d.exif = exif_use(exif);
  } catch (const Error& e) {
    fail(Fault::bad_file, file, ": ", e.what());
  }
  const nlohmann::json* size = find_field(*pretrained, file, "input_size");
  CHECK_AS(Fault::bad_file, size && size->is_array() && size->size() == 3, file,
           ": input_size is not a list of 3 numbers");
  d.img_size = static_cast<int>(as_uint((*size)[1], file, "input_size", 1 << 13));
  CHECK_AS(Fault::bad_file, d.img_size > 0, file, ": input_size: 0 pixels");
  CHECK_AS(Fault::bad_file, (*size)[0] == d.config.in_chans && (*size)[2] == (*size)[1], file,
           ": input_size: ", size->dump(), ", expected [", d.config.in_chans, ", side, side]");
  CHECK_AS(Fault::bad_file, d.config.in_chans == 3, file, ": in_chans: ", d.config.in_chans,
           ", and images are decoded to 3 channels");
  return d;
}

std::vector<std::string> differences(const TicDescription& there, const TicDescription& here) {
  const auto fields = [](const TicDescription& d) {
    nlohmann::json all = tic_model_args(d.config);
    all.update({{"img_size", d.img_size},
                {"mean", d.normalization.mean},
                {"std", d.normalization.std},
                {"crop_pct", d.crop_pct},
                {"interpolation", to_name(d.interpolation)},
                {"exif", to_name(d.exif)}});
    all.erase("preset");  // a name for what the other fields say
    return all;
  };
  const nlohmann::json from = fields(there), to = fields(here);
  std::vector<std::string> found;
  for (const auto& [key, value] : to.items())
    if (value != from[key])
      found.push_back(concat(key, " ", value.dump(), " instead of ", from[key].dump()));
  return found;
}

fs::path tic_folder(const fs::path& path) {
  if (fs::exists(path / "config.json")) return path;
  for (const char* link : {"best", "last"})
    if (fs::exists(path / link / "config.json")) return path / link;
  fail(Fault::bad_file, path.string(),
       ": neither a model folder (config.json, model.safetensors) nor a run with checkpoints");
}

fs::path tic_weights(const fs::path& folder, bool ema) {
  const fs::path weights = folder / (ema ? "model_ema.safetensors" : "model.safetensors");
  CHECK_AS(Fault::bad_file, fs::exists(weights), weights.string(), ": is missing",
           ema ? "; the run kept no average (--model-ema)" : "");
  return weights;
}

LoadedTic load_tic(const fs::path& path, bool ema, Device device) {
  const fs::path folder = tic_folder(path);
  LoadedTic loaded{read_tic_config(folder), nullptr};
  const fs::path weights = tic_weights(folder, ema);
  require_whole(folder, {weights.filename().string()});
  // A configuration is a few bytes and may ask for any size; the weights' file is the measure.
  const double parameters = tic_parameters(loaded.description.config);
  const auto bytes = static_cast<double>(fs::file_size(weights));
  CHECK_AS(Fault::bad_file, 2 * parameters <= bytes, (folder / "config.json").string(),
           ": describes ", parameters, " parameters, ", weights.string(), " has ", bytes, " bytes");
  if (ranks())
    require_same_on_all_ranks(
        {{"model", sha256_file(weights)}, {"config.json", sha256_file(folder / "config.json")}});
  loaded.model = std::make_unique<Tic>(loaded.description.config);
  load_tensors(*open_safetensors(weights), named_parameters(*loaded.model));
  move_to(*loaded.model, device);
  return loaded;
}

void explain_cost(const TicConfig& c, int height, int width) {
  constexpr double kMuch = 1e11;  // multiply-adds: seconds
  const auto macs = static_cast<double>(tic_macs(c, height, width));
  if (macs > kMuch)
    log_info(c.name(), " at ", height, "x", width, ": ", std::llround(macs / 1e9),
             " GMACs an image, more with the keys of all windows in memory");
  if (c.is_global()) return;
  const int64_t shift = c.shift == TicConfig::Shift::off ? 0 : c.shift_amount();
  bool told = false;  // of windows
  int64_t h = (height + c.patch - 1) / c.patch, w = (width + c.patch - 1) / c.patch;
  for (size_t stage = 0; stage < c.depths.size(); ++stage, h = (h + 1) / 2, w = (w + 1) / 2) {
    const int64_t window_h = (c.kernel_h - 1) * c.dilation + 1,
                  window_w = (c.kernel_w - 1) * c.dilation + 1;
    const int64_t pool = c.pool == TicConfig::Pool::kv ? c.kv_pool : 1;
    const bool turns_h = shift % ((h + pool - 1) / pool) == 0,
               turns_w = shift % ((w + pool - 1) / pool) == 0;
    if (shift > 0 && (turns_h || turns_w))
      log_info("the cyclic shift of ", shift, " is a whole turn of the ", pool > 1 ? "keys' " : "",
               "map of ", h, "x", w, " of stage ", stage + 1, ": it moves nothing there",
               turns_h && turns_w ? ""
               : turns_h          ? " up and down"
                                  : " to the sides");
    if (told || (window_h < 2 * h && window_w < 2 * w)) continue;
    told = true;
    log_info("windows of ", window_h, "x", window_w, " on the map of ", h, "x", w, " of stage ",
             stage + 1, ": more than half of each lies outside, which costs as much as inside");
  }
}

}  // namespace mullion
