// Brightness, contrast and saturation, where no automatic augmentation changes colours already.
#include <algorithm>
#include <cmath>

#include "data/augmentation.h"
#include "tensor/check.h"

namespace mullion {
namespace {

// Grey level by the weights of ITU-R BT.601, as Pillow's "L".
float grey(const float* p) { return 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2]; }

void blend(float& level, float other, float factor) {
  level = std::clamp(other + (level - other) * factor, 0.0f, 255.0f);
}

class ColorJitter : public Augmentation {
 public:
  explicit ColorJitter(float strength) : strength_(strength) {}
  void apply(AugmentedSample& s, Philox& random) const override {
    color_jitter(s.values(), int64_t{s.height()} * s.width(), strength_, random);
  }
  std::string describe() const override { return concat("colour jitter (", strength_, ")"); }

 private:
  float strength_;
};

std::unique_ptr<Augmentation> make(AugmentSettings& settings) {
  const auto strength = static_cast<float>(settings.get<double>("color_jitter"));
  if (strength == 0) return nullptr;
  // As in timm: RandAugment has colours of its own, three-augment has not.
  if (const auto automatic = settings.get<std::string>("auto"); automatic.starts_with("rand")) {
    settings.unused("color_jitter",
                    concat("with --aa ", automatic, ", which changes colours already"));
    return nullptr;
  }
  return std::make_unique<ColorJitter>(strength);
}

}  // namespace

void color_jitter(float* levels, int64_t pixels, float strength, Philox& random) {
  int order[3] = {0, 1, 2};
  for (uint32_t i = 2; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
  for (int step : order) {
    const float factor = random.uniform(std::max(0.0f, 1 - strength), 1 + strength);
    float mean = 0;
    if (step == 1) {
      double sum = 0;
      for (int64_t i = 0; i < pixels; ++i) sum += grey(levels + 3 * i);
      mean = static_cast<float>(std::floor(sum / static_cast<double>(pixels) + 0.5));
    }
    for (int64_t i = 0; i < pixels; ++i) {
      float* p = levels + 3 * i;
      const float other = step == 0 ? 0.0f : step == 1 ? mean : grey(p);
      for (int c = 0; c < 3; ++c) blend(p[c], other, factor);
    }
  }
}

AugmentationKind color_jitter_augmentation() {
  return {"colour jitter",
          AugmentPlace::colour,
          SampleForm::levels,
          stream_of(Purpose::jitter),
          {{"color_jitter", "--color-jitter", 0.0, "strength", 0, 1}},
          make};
}

}  // namespace mullion
