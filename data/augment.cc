// The crop's plan as Pillow and timm round it, and evaluation's way from file to floats.
#include "data/augment.h"

#include <algorithm>
#include <cmath>

#include "tensor/check.h"

namespace mullion {

int rounded(double x) { return static_cast<int>(std::nearbyint(x)); }

PixelMap Normalization::map() const {
  PixelMap map;
  for (int c = 0; c < 3; ++c) {
    map.scale[c] = 1 / (255 * std[c]);
    map.bias[c] = -mean[c] / std[c];
  }
  return map;
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

bool apply(const EvalTransform& t, const EncodedImage& image, TransformScratch& scratch,
           float* out) {
  image.decode(scratch.image);
  const ResizePlan plan = center_crop_plan(image.width(), image.height(), t.height, t.width,
                                           t.crop_pct, t.interpolation);
  scratch.resizer.run(scratch.image, plan, t.normalization.map(), out);
  return plan.width > image.width() || plan.height > image.height();
}

}  // namespace mullion
