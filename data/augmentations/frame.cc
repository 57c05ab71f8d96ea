// The first step: which part of the picture a sample shows, at the sample's size.
#include <algorithm>
#include <cmath>

#include "data/augmentation.h"
#include "tensor/check.h"

namespace mullion {
namespace {

// RandomResizedCrop, decoded at a lower resolution where the crop is much larger than the sample.
class ResizedCrop : public Augmentation {
 public:
  explicit ResizedCrop(const AugmentSettings& s)
      : interpolation_(s.interpolation), scaled_decode_(s.scaled_decode) {
    const auto scale = s.get<std::vector<double>>("scale");
    range_.scale_min = static_cast<float>(scale[0]);
    range_.scale_max = static_cast<float>(scale[1]);
  }
  void apply(AugmentedSample& s, Philox& random) const override {
    const CropRect crop = random_resized_crop(s.file().width(), s.file().height(), range_, random);
    Image& image = s.scratch().image;
    const Box box = s.file().decode(crop, scaled_decode_ ? s.width() : 0,
                                    scaled_decode_ ? s.height() : 0, image);
    s.resize(image, ResizePlan::whole(box, s.width(), s.height(), interpolation_));
  }
  std::string describe() const override {
    return concat("random resized crop (area ", range_.scale_min, " to ", range_.scale_max, ")");
  }

 private:
  CropRange range_;
  Interpolation interpolation_;
  bool scaled_decode_;
};

// Zero padding on all sides and a random window of the same size, without a padded copy.
class PadAndCrop : public Augmentation {
 public:
  PadAndCrop(const AugmentSettings& s, int pad) : interpolation_(s.interpolation), pad_(pad) {}
  void apply(AugmentedSample& s, Philox& random) const override {
    Image& file = s.scratch().image;
    s.file().decode(file);
    Image sized;
    if (file.width != s.width() || file.height != s.height()) {
      const Box all{0, 0, double(file.width), double(file.height)};
      s.scratch().resizer.run(file, ResizePlan::whole(all, s.width(), s.height(), interpolation_),
                              sized);
    } else {
      std::swap(sized, file);
    }
    const auto range = static_cast<uint32_t>(2 * pad_ + 1);
    const int dx = static_cast<int>(random.below(range)) - pad_;
    const int dy = static_cast<int>(random.below(range)) - pad_;
    Image window;
    window.resize(s.width(), s.height());
    const int from = std::max(0, -dx), to = std::min(s.width(), s.width() - dx);
    for (int y = 0; y < s.height() && from < to; ++y) {
      if (y + dy < 0 || y + dy >= s.height()) continue;
      const uint8_t* row = sized.row(y + dy);
      std::copy(row + 3 * (from + dx), row + 3 * (to + dx), window.row(y) + 3 * from);
    }
    s.take(window);
  }
  std::string describe() const override {
    return pad_ == 0 ? "whole picture, resized" : concat("padding by ", pad_, " and random crop");
  }

 private:
  Interpolation interpolation_;
  int pad_;
};

// The shorter side to the sample's size, then the centre.
class CenterCrop : public Augmentation {
 public:
  explicit CenterCrop(const AugmentSettings& s) : interpolation_(s.interpolation) {}
  void apply(AugmentedSample& s, Philox&) const override {
    Image& image = s.scratch().image;
    s.file().decode(image);
    s.resize(image,
             center_crop_plan(image.width, image.height, s.height(), s.width(), 1, interpolation_));
  }
  std::string describe() const override { return "centre crop"; }

 private:
  Interpolation interpolation_;
};

std::unique_ptr<Augmentation> make(AugmentSettings& s) {
  const auto mode = s.get<std::string>("mode");
  const auto scale = s.get<std::vector<double>>("scale");
  CHECK_AS(Fault::usage, scale.size() == 2 && scale[0] <= scale[1],
           "--scale: expected two rising numbers");
  const bool small = s.height <= 64 && s.width <= 64;
  const bool pads = mode == "pad-crop" || (mode == "auto" && small);
  if (s.get<bool>("no_aug")) {
    for (const char* key : {"mode", "scale", "pad"}) s.unused(key, "--no-aug is a centre crop");
    return std::make_unique<CenterCrop>(s);
  }
  if (mode == "none" || pads) {
    s.unused("scale", "no random resized crop (--aug crop)");
    if (!pads) s.unused("pad", "--aug none");
    return std::make_unique<PadAndCrop>(s, pads ? static_cast<int>(s.get<int64_t>("pad")) : 0);
  }
  s.unused("pad", "no padding and crop (--aug pad-crop)");
  return std::make_unique<ResizedCrop>(s);
}

}  // namespace

CropRect random_resized_crop(int width, int height, const CropRange& range, Philox& random) {
  const double area = static_cast<double>(width) * height;
  const double low = std::log(range.ratio_min), high = std::log(range.ratio_max);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * random.uniform(range.scale_min, range.scale_max);
    const double ratio = std::exp(low + (high - low) * random.uniform());
    const int w = rounded(std::sqrt(target * ratio)), h = rounded(std::sqrt(target / ratio));
    if (w <= 0 || w > width || h <= 0 || h > height) continue;
    const int y = static_cast<int>(random.below(static_cast<uint32_t>(height - h + 1)));
    const int x = static_cast<int>(random.below(static_cast<uint32_t>(width - w + 1)));
    return {x, y, w, h};
  }
  int w = width, h = height;
  const double ratio = static_cast<double>(width) / height;
  if (ratio < range.ratio_min) h = std::clamp(rounded(w / double{range.ratio_min}), 1, height);
  if (ratio > range.ratio_max) w = std::clamp(rounded(h * double{range.ratio_max}), 1, width);
  return {(width - w) / 2, (height - h) / 2, w, h};
}

AugmentationKind frame_augmentation() {
  return {"frame",
          AugmentPlace::frame,
          SampleForm::encoded,
          stream_of(Purpose::crop),
          {{.key = "mode",
            .flags = "--aug",
            .fallback = std::string("auto"),
            .help = "random resized crop, or padding and crop (auto: at 64 pixels and below)",
            .choices = {"auto", "crop", "pad-crop", "none"}},
           {"no_aug", "--no-aug", false, "resize and centre crop alone"},
           {"pad", "--pad", int64_t{4}, "pixels of padding of pad-crop", 0, 1024},
           {"scale", "--scale", std::vector<double>{0.08, 1.0}, "area of the random resized crop",
            0.001, 1}},
          make};
}

}  // namespace mullion
