// The operations of automatic augmentation by their names in timm, with the maps from a magnitude
// of 0 to 10 to what each operation takes.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "data/image_ops.h"
#include "tensor/random.h"

namespace mullion {

// What operations need besides the picture.
struct AugmentContext {
  Interpolation interpolation = Interpolation::bicubic;
  std::array<uint8_t, 3> fill{124, 116, 104};
};

struct AugmentOperation {
  const char* name;
  // `sign`: −1 or 1, which operations that go both ways multiply with.
  void (*apply)(Image& image, double magnitude, double sign, const AugmentContext& context);
};
// Throws Error(usage) for a name that is not known.
const AugmentOperation& augment_operation(std::string_view name);

// RandAugment (Cubuk et al. 2020) in timm's form: `count` operations, each drawn from the set and
// then done with the probability, by a magnitude with normal noise, cut to [0, most].
struct RandAugmentPolicy {
  std::vector<const AugmentOperation*> operations;
  int count = 2;
  double probability = 0.5, magnitude = 10, noise = 0, most = 10;
  bool uniform = false;  // a magnitude from [0, magnitude] instead of the noise
};
// "rand-m9-mstd0.5-inc1": m magnitude, n operations, p probability, mstd noise (more than 100:
// uniform), mmax the upper limit, inc1 the operations that grow with the magnitude. Throws
// Error(usage) that names the part.
RandAugmentPolicy parse_rand_augment(const std::string& text);
void apply(const RandAugmentPolicy& policy, const AugmentContext& context, Image& image,
           Philox& random);

}  // namespace mullion
