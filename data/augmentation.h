// Augmentation of training pictures as a list of steps. A step is one file in data/augmentations/:
// NAME.cc defines NAME_augmentation(), which says where the step stands, what it works on, which
// options it has and how it is made from their values. The list of all of them is generated from
// the folder, so that options, help, configuration and order follow from the file alone
// (docs/adding-an-augmentation.md).
#pragma once
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "data/augment.h"
#include "data/dataset.h"

namespace mullion {

using AugmentValue = std::variant<bool, int64_t, double, std::string, std::vector<double>>;

// An option of a step, in the section [augment] of a configuration.
struct AugmentOption {
  std::string key;    // "reprob"
  std::string flags;  // "--reprob"
  AugmentValue fallback;
  std::string help;  // a few words, with the unit
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices{};  // of a text; empty: any
};

// What a run asks for: the samples' form and the options that were given; the others have their
// fallback. Options that have no effect are noted, for a warning.
class AugmentSettings {
 public:
  int height = 224, width = 224;
  Interpolation interpolation = Interpolation::bicubic;
  Normalization normalization;
  bool scaled_decode = true;  // JPEG at a lower DCT scale where the crop is large enough

  // Error(usage) for a key that no step has and for a value of another type.
  void set(const std::string& key, AugmentValue value);
  bool given(const std::string& key) const { return values_.count(key) > 0; }
  // T: bool, int64_t, double, std::string or std::vector<double>, as the option's fallback.
  template <typename T>
  T get(const std::string& key) const {
    const T* found = std::get_if<T>(&value(key));
    if (found == nullptr) wrong_type(key);
    return *found;
  }
  // Notes a given option that has no effect: "with --no-aug".
  void unused(const std::string& key, const std::string& why);
  struct Unused {
    std::string key, why;
  };
  const std::vector<Unused>& unused() const { return unused_; }

 private:
  const AugmentValue& value(const std::string& key) const;
  [[noreturn]] static void wrong_type(const std::string& key);
  std::map<std::string, AugmentValue> values_;
  std::vector<Unused> unused_;
};

// What a sample is between two steps. A step names the form it works on and gets the sample in it.
enum class SampleForm {
  encoded,     // the file; the step makes a picture of the wanted size from it
  bytes,       // RGB of 8 bits a channel
  levels,      // RGB as floats in [0, 255]
  normalized,  // (level / 255 − mean) / std
  any,         // bytes or floats, whichever is there
};

// One training picture on its way through the steps.
class AugmentedSample {
 public:
  // `out`: [height, width, 3] floats, where the sample ends.
  AugmentedSample(const EncodedImage& file, int height, int width, const PixelMap& normal,
                  TransformScratch& scratch, float* out);
  int height() const { return height_; }
  int width() const { return width_; }
  const EncodedImage& file() const { return file_; }
  TransformScratch& scratch() { return scratch_; }  // image: free until the sample has a form

  // For the first step: the picture as it enters the others. Resizing goes straight to the form
  // that the next step wants, so that floats are not rounded to 8 bits without need.
  void resize(const Image& from, const ResizePlan& plan);
  void take(Image& picture);  // of height × width; exchanged

  SampleForm form() const { return form_; }
  Image& bytes() { return picture_; }           // in form `bytes`
  float* values() { return out_; }              // in the forms of floats
  void convert(SampleForm form);                // forward; levels become bytes by rounding
  void want(SampleForm form) { next_ = form; }  // of the step after the first

 private:
  const EncodedImage& file_;
  int height_, width_;
  PixelMap normal_;
  TransformScratch& scratch_;
  Image& picture_;
  float* out_;
  SampleForm form_ = SampleForm::encoded, next_ = SampleForm::normalized;
};

class Augmentation {
 public:
  virtual ~Augmentation() = default;
  // The sample is in the form of the step's kind. All chance comes from `random`, which is a stream
  // of (seed, epoch, sample, kind). Called from several threads at once.
  virtual void apply(AugmentedSample& sample, Philox& random) const = 0;
  virtual std::string describe() const = 0;  // "flip (probability 0.5)"
};

// Steps run in the order of their places, those of one place by name.
enum class AugmentPlace { frame, geometry, colour, noise, batch };

struct AugmentationKind {
  std::string name;
  AugmentPlace place{};
  SampleForm form{};
  uint64_t stream = 0;  // of random numbers: stream_named(name)
  std::vector<AugmentOption> options{};
  // Null where the options leave the step out. A kind without it only declares options.
  std::unique_ptr<Augmentation> (*make)(AugmentSettings& settings) = nullptr;
};

// A stream of its own for each name (FNV-1a, 64 bits).
constexpr uint64_t stream_named(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}
constexpr uint64_t stream_of(Purpose purpose) { return static_cast<uint64_t>(purpose); }

// All kinds, in the order in which they run.
const std::vector<AugmentationKind>& augmentation_kinds();
const AugmentOption& augment_option(const std::string& key);

// The steps of a run, applied to each training sample.
class TrainTransform {
 public:
  // Throws Error(usage) for values that do not go together.
  explicit TrainTransform(AugmentSettings settings = {});
  int height() const { return settings_.height; }
  int width() const { return settings_.width; }
  // The steps in their order, with their numbers.
  std::vector<std::string> describe() const;
  // Options that were given and have no effect.
  const std::vector<AugmentSettings::Unused>& unused() const { return settings_.unused(); }
  const AugmentSettings& settings() const { return settings_; }

  // `out`: [height, width, 3] normalised floats, a function of picture and key alone.
  void apply(const EncodedImage& image, const SampleKey& key, TransformScratch& scratch,
             float* out) const;

 private:
  struct Step {
    SampleForm form;
    uint64_t stream;
    std::shared_ptr<const Augmentation> augmentation;
  };
  AugmentSettings settings_;
  PixelMap normal_;
  std::vector<Step> steps_;
};

}  // namespace mullion
