// Random erasing: a rectangle of noise, after normalisation.
#include <algorithm>
#include <cmath>

#include "data/augmentation.h"
#include "tensor/check.h"

namespace mullion {
namespace {

class RandomErasing : public Augmentation {
 public:
  explicit RandomErasing(float probability) : probability_(probability) {}
  void apply(AugmentedSample& s, Philox& random) const override {
    random_erasing(s.values(), s.height(), s.width(), probability_, random);
  }
  std::string describe() const override {
    return concat("random erasing (probability ", probability_, ")");
  }

 private:
  float probability_;
};

std::unique_ptr<Augmentation> make(AugmentSettings& settings) {
  const auto probability = static_cast<float>(settings.get<double>("reprob"));
  if (probability == 0) return nullptr;
  return std::make_unique<RandomErasing>(probability);
}

}  // namespace

void random_erasing(float* sample, int height, int width, float probability, Philox& random) {
  if (random.uniform() >= probability) return;
  const double area = static_cast<double>(height) * width, log_ratio = std::log(1 / 0.3);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * random.uniform(0.02f, 1.0f / 3.0f);
    const double ratio = std::exp(log_ratio * (2 * random.uniform() - 1));
    const int h = rounded(std::sqrt(target * ratio)), w = rounded(std::sqrt(target / ratio));
    if (h <= 0 || w <= 0 || h >= height || w >= width) continue;
    const int top = static_cast<int>(random.below(static_cast<uint32_t>(height - h + 1)));
    const int left = static_cast<int>(random.below(static_cast<uint32_t>(width - w + 1)));
    const uint64_t stream = mix_bits(random.stream, 1);
    uint64_t block = 0;
    for (int y = top; y < top + h; ++y) {
      float* row = sample + (static_cast<size_t>(y) * width + left) * 3;
      for (int i = 0; i < 3 * w; i += 4) {
        const PhiloxBlock bits = philox(random.seed, stream, block++);
        float noise[4];
        normal_from_bits(bits.v[0], bits.v[1], noise[0], noise[1]);
        normal_from_bits(bits.v[2], bits.v[3], noise[2], noise[3]);
        std::copy_n(noise, std::min(4, 3 * w - i), row + i);
      }
    }
    return;
  }
}

AugmentationKind random_erasing_augmentation() {
  return {"random erasing",
          AugmentPlace::noise,
          SampleForm::normalized,
          stream_of(Purpose::erase),
          {{"reprob", "--reprob", 0.0, "probability of random erasing", 0, 1}},
          make};
}

}  // namespace mullion
