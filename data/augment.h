// From a picture to a normalised [height, width, 3] sample: what the transforms of training and of
// evaluation share. The steps of training are in data/augmentation.h.
#pragma once
#include "data/decode.h"
#include "data/resize.h"
#include "tensor/random.h"

namespace mullion {

// (level / 255 − mean) / std for each channel; default: ImageNet's.
struct Normalization {
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f}, std{0.229f, 0.224f, 0.225f};
  PixelMap map() const;
};

// RandomResizedCrop: ten tries of an area and an aspect ratio (log-uniform), then the largest
// centred crop within the ratios.
struct CropRange {
  float scale_min = 0.08f, scale_max = 1.0f;
  float ratio_min = 3.0f / 4.0f, ratio_max = 4.0f / 3.0f;
};
CropRect random_resized_crop(int width, int height, const CropRange& range, Philox& random);

// Resizes so that (height / crop_pct, width / crop_pct) is just covered, then takes the centre. For
// a square: the shorter side to ⌊size / crop_pct⌋, as the usual evaluation does.
ResizePlan center_crop_plan(int width, int height, int out_height, int out_width, float crop_pct,
                            Interpolation interpolation);

// Colours of [pixels, 3] levels in [0, 255], in place: brightness, contrast and saturation, in
// random order, each by a factor from [1 − strength, 1 + strength].
void color_jitter(float* levels, int64_t pixels, float strength, Philox& random);

// With the given probability replaces a rectangle of 2 to 33 % of the area, ratio 0.3 to 3.3, by
// normal noise, pixel by pixel (Zhong et al. 2017); `sample` is normalised, [height, width, 3].
void random_erasing(float* sample, int height, int width, float probability, Philox& random);

struct EvalTransform {
  int height = 224, width = 224;
  float crop_pct = 0.875f;
  Interpolation interpolation = Interpolation::bicubic;
  Normalization normalization;
};

// Buffers that one thread keeps between samples.
struct TransformScratch {
  Image image, picture;
  Resizer resizer;
};

// Returns whether the image had to be enlarged.
bool apply(const EvalTransform& transform, const EncodedImage& image, TransformScratch& scratch,
           float* out);

// To the nearest integer, half to even, as Python rounds.
int rounded(double x);

}  // namespace mullion
