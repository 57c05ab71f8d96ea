// Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of a whole batch with its mirror image,
// and label smoothing: the batch step of the DeiT recipe.
#pragma once
#include <cstdint>
#include <string>

#include "tensor/random.h"

namespace mullion {

struct MixOptions {
  float mixup = 0, cutmix = 0;  // α of Beta(α, α); 0: off. Recipe: 0.8 and 1
  float probability = 1;        // that a batch is mixed at all
  float switch_to_cutmix = 0.5f;
  float smoothing = 0;    // of the labels. Recipe: 0.1
  int64_t off_epoch = 0;  // from this epoch on nothing is mixed; 0: always

  bool mixes() const { return mixup > 0 || cutmix > 0; }
};

class AugmentSettings;
MixOptions mix_options(const AugmentSettings& settings);
std::string describe(const MixOptions& options);  // "" where nothing is mixed

// Beta(a, b) by two gamma variates (Marsaglia and Tsang 2000).
float beta_variate(float a, float b, Philox& random);

// images [n, height, width, channels] mixed in place, sample i with sample n − 1 − i, one λ for the
// batch; targets [n, classes] get λ·smooth(label i) + (1 − λ)·smooth(label n − 1 − i), where smooth
// spreads `smoothing` evenly over all classes. Returns λ (1: not mixed).
float mix_batch(const MixOptions& options, Philox& random, float* images, int n, int height,
                int width, int channels, const int64_t* labels, int classes, float* targets);

}  // namespace mullion
