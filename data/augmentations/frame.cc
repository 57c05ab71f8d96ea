// The first step: which part of the picture a sample shows, at the sample's size.
#include <algorithm>
#include <cmath>

#include "data/augmentation.h"
#include "tensor/check.h"
#include "tensor/words.h"

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

// timm's "rkrr": the shorter side to about the sample's size, by chance larger and of another
// ratio, then a window anywhere; what it lacks is the picture mirrored at its edges.
class KeepRatioCrop : public Augmentation {
 public:
  explicit KeepRatioCrop(const AugmentSettings& s)
      : interpolation_(s.interpolation), scale_(0.8f), most_(1) {
    if (!s.given("scale")) return;
    scale_ = static_cast<float>(s.get<std::vector<double>>("scale")[0]);
    most_ = static_cast<float>(s.get<std::vector<double>>("scale")[1]);
  }
  void apply(AugmentedSample& s, Philox& random) const override {
    const bool scaled = random.uniform() < 0.5f;
    const float share = random.uniform(scale_, most_);
    const bool stretched = random.uniform() < 0.5f;
    const double log_aspect = std::log(1 / 0.9) * (2 * random.uniform() - 1);
    const double zoom = scaled ? 1 / std::sqrt(share) : 1;
    const double aspect = stretched ? std::exp(log_aspect / 2) : 1;
    Image& file = s.scratch().image;
    s.file().decode(file);
    const double ratio = std::min(double(file.height) / s.height(), double(file.width) / s.width());
    const int height = std::max(1, rounded(file.height * zoom / aspect / ratio));
    const int width = std::max(1, rounded(file.width * zoom * aspect / ratio));
    Image sized, window;
    const Box all{0, 0, double(file.width), double(file.height)};
    s.scratch().resizer.run(file, ResizePlan::whole(all, width, height, interpolation_), sized);
    const int top = offset(height - s.height(), random), left = offset(width - s.width(), random);
    window.resize(s.width(), s.height());
    for (int y = 0; y < s.height(); ++y) {
      const uint8_t* from = sized.row(mirrored(y + top, height));
      uint8_t* to = window.row(y);
      for (int x = 0; x < s.width(); ++x, to += 3)
        std::copy_n(from + 3 * mirrored(x + left, width), 3, to);
    }
    s.take(window);
  }
  std::string describe() const override {
    return concat("random crop that keeps the ratio (area ", scale_, " to ", most_, ")");
  }

 private:
  // From 0 to the excess, which is negative where the picture is smaller than the window.
  static int offset(int excess, Philox& random) {
    const int drawn = static_cast<int>(random.below(static_cast<uint32_t>(std::abs(excess) + 1)));
    return excess < 0 ? -drawn : drawn;
  }
  static int mirrored(int i, int n) {
    while (n > 1 && (i < 0 || i >= n)) i = i < 0 ? -i : 2 * (n - 1) - i;
    return n > 1 ? i : 0;
  }
  Interpolation interpolation_;
  float scale_, most_;
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
  CHECK_AS(Fault::usage, scale.size() == 2 && scale[0] <= scale[1], "--scale ", joined(scale, ","),
           ": expected two rising numbers");
  const bool small = s.height <= 64 && s.width <= 64;
  const bool pads = mode == "pad-crop" || (mode == "auto" && small);
  if (s.get<bool>("no_aug")) {
    for (const char* key : {"mode", "scale", "pad", "train_crop_mode"})
      s.unused(key, "with --no-aug, a centre crop");
    return std::make_unique<CenterCrop>(s);
  }
  if (mode == "none" || pads) {
    for (const char* key : {"scale", "train_crop_mode"})
      s.unused(key, "without a random resized crop (--aug crop)");
    if (!pads) s.unused("pad", "with --aug none");
    return std::make_unique<PadAndCrop>(s, pads ? static_cast<int>(s.get<int64_t>("pad")) : 0);
  }
  s.unused("pad", "without padding and crop (--aug pad-crop)");
  if (s.get<std::string>("train_crop_mode") == "rkrr") return std::make_unique<KeepRatioCrop>(s);
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
           {.key = "train_crop_mode",
            .flags = "--train-crop-mode",
            .fallback = std::string("rrc"),
            .help = "random resized crop, or rkrr: resizing that keeps the ratio, area 0.8 to 1",
            .choices = {"rrc", "rkrr"}},
           {"scale", "--scale", std::vector<double>{0.08, 1.0}, "area of the random resized crop",
            0.001, 1}},
          make};
}

}  // namespace mullion
