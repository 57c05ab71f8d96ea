// How much of a partner each sample gets, and the mixing itself.
#include "data/mix.h"

#include <algorithm>
#include <cmath>

#include "data/augmentation.h"
#include "tensor/check.h"

namespace mullion {
namespace {

double gamma_variate(double shape, Philox& random) {
  if (shape < 1) {  // Γ(a) = Γ(a + 1)·U^(1/a)
    const double u = (random.next() + 0.5) * 0x1p-32;
    return gamma_variate(shape + 1, random) * std::pow(u, 1 / shape);
  }
  const double d = shape - 1.0 / 3.0, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = random.normal(), v = std::pow(1 + c * x, 3);
    const double u = (random.next() + 0.5) * 0x1p-32;
    if (v > 0 && std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

// A pair of samples at once: a ← λa + (1 − λ)b, b ← λb + (1 − λ)a.
void mix_pair(float* a, float* b, int64_t floats, float lambda) {
  for (int64_t i = 0; i < floats; ++i) {
    const float x = a[i], y = b[i];
    a[i] = lambda * x + (1 - lambda) * y;
    b[i] = lambda * y + (1 - lambda) * x;
  }
}

struct Rectangle {
  int x0, y0, x1, y1;
};

// Of a share 1 − λ of the area, its centre anywhere, cut at the edges.
Rectangle cutmix_box(int height, int width, float lambda, Philox& random) {
  const float side = std::sqrt(1 - lambda);
  const int h = static_cast<int>(height * side), w = static_cast<int>(width * side);
  const int cy = static_cast<int>(random.below(static_cast<uint32_t>(height)));
  const int cx = static_cast<int>(random.below(static_cast<uint32_t>(width)));
  return {std::max(cx - w / 2, 0), std::max(cy - h / 2, 0), std::min(cx + w / 2, width),
          std::min(cy + h / 2, height)};
}

void swap_box(float* a, float* b, int width, int channels, const Rectangle& box) {
  for (int y = box.y0; y < box.y1; ++y) {
    const int64_t from = (int64_t{y} * width + box.x0) * channels;
    std::swap_ranges(a + from, a + from + int64_t{box.x1 - box.x0} * channels, b + from);
  }
}

}  // namespace

float beta_variate(float a, float b, Philox& random) {
  const double x = gamma_variate(a, random), y = gamma_variate(b, random);
  return x + y > 0 ? static_cast<float>(x / (x + y)) : 0.5f;
}

float mix_batch(const MixOptions& options, Philox& random, float* images, int n, int height,
                int width, int channels, const int64_t* labels, int classes, float* targets) {
  float lambda = 1;
  if (options.mixes() && random.uniform() < options.probability) {
    const bool both = options.mixup > 0 && options.cutmix > 0;
    const bool cut = both ? random.uniform() < options.switch_to_cutmix : options.cutmix > 0;
    const float alpha = cut ? options.cutmix : options.mixup;
    lambda = beta_variate(alpha, alpha, random);
    const int64_t floats = int64_t{height} * width * channels;
    Rectangle box{};
    if (cut) {
      box = cutmix_box(height, width, lambda, random);
      const float area = static_cast<float>(std::max(0, box.x1 - box.x0)) *
                         static_cast<float>(std::max(0, box.y1 - box.y0));
      lambda = 1 - area / (static_cast<float>(height) * static_cast<float>(width));
    }
    for (int i = 0; i < n / 2; ++i) {
      float* a = images + i * floats;
      float* b = images + (n - 1 - i) * floats;
      cut ? swap_box(a, b, width, channels, box) : mix_pair(a, b, floats, lambda);
    }
  }
  const float off = options.smoothing / static_cast<float>(classes), on = 1 - options.smoothing;
  std::fill(targets, targets + int64_t{n} * classes, off);
  for (int i = 0; i < n; ++i) {
    const int64_t own = labels[i], other = labels[n - 1 - i];
    CHECK(own >= 0 && own < classes, "mix: label ", own, " of ", classes, " classes");
    targets[int64_t{i} * classes + own] += lambda * on;
    targets[int64_t{i} * classes + other] += (1 - lambda) * on;
  }
  return lambda;
}

MixOptions mix_options(const AugmentSettings& settings) {
  MixOptions mix;
  const auto number = [&](const char* key) {
    return static_cast<float>(settings.get<double>(key));
  };
  mix.mixup = number("mixup");
  mix.cutmix = number("cutmix");
  mix.probability = number("mixup_prob");
  mix.switch_to_cutmix = number("mixup_switch_prob");
  mix.smoothing = number("smoothing");
  mix.off_epoch = settings.get<int64_t>("mixup_off_epoch");
  return mix;
}

std::string describe(const MixOptions& mix) {
  if (!mix.mixes()) return "";
  const std::string mixup = mix.mixup > 0 ? concat("mixup (alpha ", mix.mixup, ")") : "";
  const std::string cutmix = mix.cutmix > 0 ? concat("cutmix (alpha ", mix.cutmix, ")") : "";
  return concat(mixup, mixup.empty() || cutmix.empty() ? "" : " or ", cutmix,
                " of a batch (probability ", mix.probability, ")",
                mix.off_epoch > 0 ? concat(" in the first ", mix.off_epoch, " passes") : "");
}

AugmentationKind mix_augmentation() {
  AugmentationKind kind{"mix", AugmentPlace::batch, SampleForm::normalized};
  kind.options = {
      {"mixup", "--mixup", 0.0, "alpha of Beta; 0: off", 0, 100},
      {"cutmix", "--cutmix", 0.0, "alpha of Beta; 0: off", 0, 100},
      {"mixup_prob", "--mixup-prob", 1.0, "that a batch is mixed", 0, 1},
      {"mixup_switch_prob", "--mixup-switch-prob", 0.5, "of cutmix where both are on", 0, 1},
      {"mixup_off_epoch", "--mixup-off-epoch", int64_t{0}, "from this epoch on unmixed; 0: never",
       0, 1e6},
      {"smoothing", "--smoothing", 0.1, "of the labels", 0, 0.999}};
  return kind;
}

}  // namespace mullion
