// Settings by name, and a sample that steps in the order of their places turn from file to floats.
#include "data/augmentation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tensor/check.h"

namespace mullion {

// The functions of data/augmentations/*.cc; the list is generated from that folder.
#define MULLION_AUGMENTATION(name) AugmentationKind name##_augmentation();
#include "data/augmentations.inc"
#undef MULLION_AUGMENTATION

const std::vector<AugmentationKind>& augmentation_kinds() {
  static const std::vector<AugmentationKind> kinds = [] {
    std::vector<AugmentationKind> all = {
#define MULLION_AUGMENTATION(name) name##_augmentation(),
#include "data/augmentations.inc"
#undef MULLION_AUGMENTATION
    };
    std::stable_sort(all.begin(), all.end(),
                     [](const auto& a, const auto& b) { return a.place < b.place; });
    // A normalised sample does not become levels or bytes again.
    const AugmentationKind* normalized = nullptr;
    for (const AugmentationKind& kind : all) {
      CHECK(normalized == nullptr || kind.form == SampleForm::normalized ||
                kind.form == SampleForm::any,
            "augmentation ", kind.name, ": works on levels or bytes, and stands after ",
            normalized->name, ", which works on the normalised sample");
      if (kind.form == SampleForm::normalized) normalized = &kind;
    }
    return all;
  }();
  return kinds;
}

const AugmentOption& augment_option(const std::string& key) {
  for (const AugmentationKind& kind : augmentation_kinds())
    for (const AugmentOption& option : kind.options)
      if (option.key == key) return option;
  fail(Fault::usage, "augment.", key, ": no augmentation has this option");
}

void AugmentSettings::set(const std::string& key, AugmentValue value) {
  if (augment_option(key).fallback.index() != value.index()) wrong_type(key);
  values_[key] = std::move(value);
}

const AugmentValue& AugmentSettings::value(const std::string& key) const {
  const auto place = values_.find(key);
  return place != values_.end() ? place->second : augment_option(key).fallback;
}

void AugmentSettings::wrong_type(const std::string& key) {
  fail(Fault::usage, "augment.", key, ": another type than the option's");
}

void AugmentSettings::unused(const std::string& key, const std::string& why) {
  if (given(key)) unused_.push_back({key, why});
}

AugmentedSample::AugmentedSample(const EncodedImage& file, int height, int width,
                                 const PixelMap& normal, TransformScratch& scratch, float* out)
    : file_(file),
      height_(height),
      width_(width),
      normal_(normal),
      scratch_(scratch),
      picture_(scratch.picture),
      out_(out) {}

void AugmentedSample::resize(const Image& from, const ResizePlan& plan) {
  form_ = next_;
  if (form_ == SampleForm::bytes) {
    scratch_.resizer.run(from, plan, picture_);
  } else {
    scratch_.resizer.run(from, plan, form_ == SampleForm::levels ? PixelMap{} : normal_, out_);
  }
}

void AugmentedSample::take(Image& picture) {
  CHECK(picture.width == width_ && picture.height == height_, "augmentation: a picture of ",
        picture.width, "x", picture.height, " where ", width_, "x", height_, " is wanted");
  std::swap(picture, picture_);
  form_ = SampleForm::bytes;
}

void AugmentedSample::convert(SampleForm form) {
  if (form == form_ || form == SampleForm::any) return;
  const size_t floats = static_cast<size_t>(height_) * width_ * 3;
  DCHECK(form_ != SampleForm::encoded && form_ != SampleForm::normalized);
  if (form == SampleForm::bytes) {
    picture_.resize(width_, height_);
    for (size_t i = 0; i < floats; ++i)
      picture_.pixels[i] = static_cast<uint8_t>(std::clamp(out_[i], 0.0f, 255.0f) + 0.5f);
  } else {
    const bool levels = form == SampleForm::levels, from_bytes = form_ == SampleForm::bytes;
    const PixelMap map = levels ? PixelMap{} : normal_;
    for (size_t i = 0; i < floats; i += 3) {
      for (size_t c = 0; c < 3; ++c) {
        const float level = from_bytes ? picture_.pixels[i + c] : out_[i + c];
        out_[i + c] = level * map.scale[c] + map.bias[c];
      }
    }
  }
  form_ = form;
}

TrainTransform::TrainTransform(AugmentSettings settings)
    : settings_(std::move(settings)), normal_(settings_.normalization.map()) {
  const bool plain = settings_.get<bool>("no_aug") || settings_.get<std::string>("mode") == "none";
  for (const AugmentationKind& kind : augmentation_kinds()) {
    if (kind.make == nullptr) continue;
    if (plain && kind.place != AugmentPlace::frame) {
      for (const AugmentOption& option : kind.options)
        settings_.unused(option.key, "with --no-aug or --aug none");
      continue;
    }
    std::shared_ptr<const Augmentation> step = kind.make(settings_);
    if (step) steps_.push_back({kind.form, kind.stream, std::move(step)});
  }
}

std::vector<std::string> TrainTransform::describe() const {
  std::vector<std::string> names;
  for (const Step& step : steps_) names.push_back(step.augmentation->describe());
  return names;
}

void TrainTransform::apply(const EncodedImage& image, const SampleKey& key,
                           TransformScratch& scratch, float* out) const {
  AugmentedSample sample(image, height(), width(), normal_, scratch, out);
  const auto next = std::find_if(steps_.begin() + 1, steps_.end(),
                                 [](const Step& step) { return step.form != SampleForm::any; });
  if (next != steps_.end()) sample.want(next->form);
  for (const Step& step : steps_) {
    if (step.form != SampleForm::encoded) sample.convert(step.form);
    Philox random = key.random(step.stream);
    step.augmentation->apply(sample, random);
  }
  sample.convert(SampleForm::normalized);
}

}  // namespace mullion
