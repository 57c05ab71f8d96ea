// Automatic augmentation: RandAugment, or the three-augment of DeiT III (Touvron et al. 2022).
#include "data/augmentation.h"
#include "data/rand_augment.h"
#include "tensor/check.h"

namespace mullion {
namespace {

AugmentContext context_of(const AugmentSettings& settings) {
  AugmentContext context{settings.interpolation, {}};
  for (size_t c = 0; c < 3; ++c)
    context.fill[c] =
        static_cast<uint8_t>(std::min(255, rounded(255.0 * settings.normalization.mean[c])));
  return context;
}

class RandAugment : public Augmentation {
 public:
  RandAugment(const AugmentSettings& settings, const std::string& text)
      : text_(text), policy_(parse_rand_augment(text)), context_(context_of(settings)) {}
  void apply(AugmentedSample& s, Philox& random) const override {
    mullion::apply(policy_, context_, s.bytes(), random);
  }
  std::string describe() const override {
    return concat("RandAugment (", text_, ": ", policy_.count, " of ", policy_.operations.size(),
                  " operations, probability ", policy_.probability, ", magnitude ",
                  policy_.magnitude,
                  policy_.magnitude > policy_.most ? concat(", cut to ", policy_.most) : "", ")");
  }

 private:
  std::string text_;
  RandAugmentPolicy policy_;
  AugmentContext context_;
};

// One of: solarized above half, grey, blurred by a random radius.
class ThreeAugment : public Augmentation {
 public:
  void apply(AugmentedSample& s, Philox& random) const override {
    const uint32_t which = random.below(3);
    const float radius = random.uniform(0.1f, 2.0f);
    if (which == 0) solarize(s.bytes(), 128);
    if (which == 1) adjust_color(s.bytes(), 0);
    if (which == 2) gaussian_blur(s.bytes(), radius);
  }
  std::string describe() const override { return "three-augment (solarize, grey or blur)"; }
};

std::unique_ptr<Augmentation> make(AugmentSettings& settings) {
  const auto text = settings.get<std::string>("auto");
  if (text == "none") return nullptr;
  if (text == "3a") return std::make_unique<ThreeAugment>();
  return std::make_unique<RandAugment>(settings, text);
}

}  // namespace

AugmentationKind auto_augment_augmentation() {
  return {"auto augment",
          AugmentPlace::colour,
          SampleForm::bytes,
          stream_named("auto augment"),
          {{"auto", "--aa", std::string("none"),
            "automatic augmentation: none, 3a, or e.g. rand-m9-mstd0.5-inc1"}},
          make};
}

}  // namespace mullion
