// The mirror image, left and right exchanged.
#include <algorithm>

#include "data/augmentation.h"
#include "tensor/check.h"

namespace mullion {
namespace {

template <typename T>
void mirror(T* values, int height, int width) {
  for (int y = 0; y < height; ++y) {
    T* row = values + static_cast<size_t>(y) * width * 3;
    for (int x = 0; x < width / 2; ++x)
      std::swap_ranges(row + 3 * x, row + 3 * x + 3, row + 3 * (width - 1 - x));
  }
}

class Flip : public Augmentation {
 public:
  explicit Flip(float probability) : probability_(probability) {}
  void apply(AugmentedSample& s, Philox& random) const override {
    if (random.uniform() >= probability_) return;
    if (s.form() == SampleForm::bytes)
      mirror(s.bytes().pixels.data(), s.height(), s.width());
    else
      mirror(s.values(), s.height(), s.width());
  }
  std::string describe() const override { return concat("flip (probability ", probability_, ")"); }

 private:
  float probability_;
};

std::unique_ptr<Augmentation> make(AugmentSettings& settings) {
  const auto probability = static_cast<float>(settings.get<double>("flip"));
  if (probability == 0) return nullptr;
  return std::make_unique<Flip>(probability);
}

}  // namespace

AugmentationKind flip_augmentation() {
  return {"flip",
          AugmentPlace::geometry,
          SampleForm::any,
          stream_of(Purpose::flip),
          {{"flip", "--hflip", 0.5, "probability", 0, 1}},
          make};
}

}  // namespace mullion
