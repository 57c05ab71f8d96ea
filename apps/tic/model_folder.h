// A trained TiC as a folder in timm's form: model.safetensors and config.json, which holds what is
// needed to use the weights: the architecture, the classes in order, and how images are prepared.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/augment.h"
#include "models/tic/model.h"

namespace mullion {

struct TicDescription {
  TicConfig config;
  std::vector<std::string> classes;  // label i is classes[i]
  Normalization normalization;
  float crop_pct = 0.875f;
  Interpolation interpolation = Interpolation::bicubic;
  int img_size = 224;
  ExifUse exif = ExifUse::ignore;
  std::vector<std::string> class_names = {};  // for people: empty, or one a class, "" for none

  std::string shown(size_t label) const;  // "n01440764 tench", or the class alone
  // How images are prepared for the model at a size.
  EvalTransform transform(int height, int width) const {
    return {height, width, crop_pct, interpolation, normalization};
  }
};

void write_tic_config(const std::filesystem::path& folder, const TicDescription& description);
// Refuses what this program cannot do (images that are not square, another crop than the centre)
// and warns of fields that it does not know.
TicDescription read_tic_config(const std::filesystem::path& folder);
// Where two descriptions differ, "crop_pct 0.9 instead of 0.875": what weights that were trained as
// `there` meet when they are used as `here`.
std::vector<std::string> differences(const TicDescription& there, const TicDescription& here);

struct LoadedTic {
  TicDescription description;
  std::unique_ptr<Tic> model;
};
// `path`: such a folder, or a run, whose best (else last) checkpoint is taken. With `ema`, the
// averaged weights beside the raw ones; an error where the folder has none, or where ranks find
// other files there.
LoadedTic load_tic(const std::filesystem::path& path, bool ema, Device device = {});

// The model folder of `path` as above.
std::filesystem::path tic_folder(const std::filesystem::path& path);
// The file of its weights, or of their average. Error(bad_file) where it is missing.
std::filesystem::path tic_weights(const std::filesystem::path& folder, bool ema);

Interpolation interpolation_of(const std::string& name);  // bilinear, bicubic
std::string to_name(Interpolation interpolation);
ExifUse exif_use(const std::string& name);  // ignore, apply
std::string to_name(ExifUse use);

// The longest side a model is asked to look at: 64 megapixels, the limit of what is decoded.
constexpr int kMostImageSide = 1 << 13;
// Says what an image of this size costs where it is much, and where a stage's map is so small that
// most of each attention window lies outside of it, and is computed all the same, or a cyclic shift
// ends where it began.
void explain_cost(const TicConfig& config, int height, int width);

}  // namespace mullion
