#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/dataset.h"
#include "tensor/check.h"

namespace mullion {
namespace {

int rounded(double x) { return static_cast<int>(std::nearbyint(x)); }  // half to even

// Grey level by the weights of ITU-R BT.601, as Pillow's "L".
float grey(const float* p) { return 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2]; }

void blend(float& level, float other, float factor) {
  level = std::clamp(other + (level - other) * factor, 0.0f, 255.0f);
}

void normalize(float* levels, int64_t pixels, const PixelMap& map) {
  for (int64_t i = 0; i < pixels; ++i) {
    for (int c = 0; c < 3; ++c) levels[3 * i + c] = levels[3 * i + c] * map.scale[c] + map.bias[c];
  }
}

// Zero padding on all sides and a random window of the same size, both without a padded copy.
void pad_and_crop(const TrainTransform& t, const SampleKey& key, TransformScratch& scratch,
                  const EncodedImage& file, bool flip, const PixelMap& map, float* out) {
  file.decode(scratch.image);
  const Image* image = &scratch.image;
  Image sized;
  if (image->width != t.width || image->height != t.height) {
    const Box all{0, 0, double(image->width), double(image->height)};
    scratch.resizer.run(*image, ResizePlan::whole(all, t.width, t.height, t.interpolation), sized);
    image = &sized;
  }
  Philox random = key.random(Purpose::crop);
  const int range = 2 * t.pad + 1;
  const int dx = static_cast<int>(random.below(range)) - t.pad;
  const int dy = static_cast<int>(random.below(range)) - t.pad;
  for (int y = 0; y < t.height; ++y) {
    for (int x = 0; x < t.width; ++x) {
      const int sy = y + dy, sx = (flip ? t.width - 1 - x : x) + dx;
      const bool inside = sy >= 0 && sy < t.height && sx >= 0 && sx < t.width;
      const uint8_t* from = inside ? image->row(sy) + 3 * sx : nullptr;
      float* to = out + (static_cast<size_t>(y) * t.width + x) * 3;
      for (int c = 0; c < 3; ++c) to[c] = (from ? from[c] : 0) * map.scale[c] + map.bias[c];
    }
  }
}

}  // namespace

PixelMap Normalization::map() const {
  PixelMap map;
  for (int c = 0; c < 3; ++c) {
    map.scale[c] = 1 / (255 * std[c]);
    map.bias[c] = -mean[c] / std[c];
  }
  return map;
}

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

ResizePlan center_crop_plan(int width, int height, int out_height, int out_width, float crop_pct,
                            Interpolation interpolation) {
  CHECK_AS(Fault::usage, crop_pct > 0 && crop_pct <= 1, "crop_pct ", crop_pct, " is not in (0, 1]");
  // The epsilon undoes the float's rounding: 224 / 0.875f must be 256.
  const int64_t cover_h = static_cast<int64_t>(out_height / double{crop_pct} + 1e-4);
  const int64_t cover_w = static_cast<int64_t>(out_width / double{crop_pct} + 1e-4);
  int64_t w = cover_w, h = cover_h;
  if (cover_w * height >= cover_h * width) {  // the width decides
    h = std::max(h, cover_w * height / width);
  } else {
    w = std::max(w, cover_h * width / height);
  }
  ResizePlan plan;
  plan.box = {0, 0, double(width), double(height)};
  plan.width = static_cast<int>(w);
  plan.height = static_cast<int>(h);
  plan.x = rounded((plan.width - out_width) / 2.0);
  plan.y = rounded((plan.height - out_height) / 2.0);
  plan.window_width = out_width;
  plan.window_height = out_height;
  plan.interpolation = interpolation;
  return plan;
}

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

void apply(const TrainTransform& t, const EncodedImage& image, const SampleKey& key,
           TransformScratch& scratch, float* out) {
  const bool flip = key.random(Purpose::flip).uniform() < t.flip;
  const int64_t pixels = int64_t{t.height} * t.width;
  const PixelMap normal = t.normalization.map();
  const PixelMap map = t.jitter > 0 ? PixelMap{} : normal;  // jitter works on levels
  if (t.pad >= 0) {
    pad_and_crop(t, key, scratch, image, flip, map, out);
  } else {
    Philox random = key.random(Purpose::crop);
    const CropRect crop = random_resized_crop(image.width(), image.height(), t.crop, random);
    const int w = t.scaled_decode ? t.width : 0, h = t.scaled_decode ? t.height : 0;
    const Box box = image.decode(crop, w, h, scratch.image);
    ResizePlan plan = ResizePlan::whole(box, t.width, t.height, t.interpolation);
    plan.flip = flip;
    scratch.resizer.run(scratch.image, plan, map, out);
  }
  if (t.jitter > 0) {
    Philox random = key.random(Purpose::jitter);
    color_jitter(out, pixels, t.jitter, random);
    normalize(out, pixels, normal);
  }
  if (t.erase > 0) {
    Philox random = key.random(Purpose::erase);
    random_erasing(out, t.height, t.width, t.erase, random);
  }
}

void apply(const EvalTransform& t, const EncodedImage& image, TransformScratch& scratch,
           float* out) {
  image.decode(scratch.image);
  const ResizePlan plan = center_crop_plan(image.width(), image.height(), t.height, t.width,
                                           t.crop_pct, t.interpolation);
  scratch.resizer.run(scratch.image, plan, t.normalization.map(), out);
}

}  // namespace mullion
