// Pictures changed in place as Pillow changes them, on RGB of 8 bits a channel: what RandAugment
// and its relatives are made of. Equal to Pillow's results, or one level apart where a filter or an
// interpolation rounds.
#pragma once
#include <array>

#include "data/image.h"
#include "data/resize.h"

namespace mullion {

// Each channel's levels stretched to [0, 255].
void auto_contrast(Image& image);
// Each channel's levels spread so that their histogram is even.
void equalize(Image& image);
void invert(Image& image);
// Levels from the threshold on are inverted; 256: none is.
void solarize(Image& image, int threshold);
// `add` to the levels below 128, at most 255.
void solarize_add(Image& image, int add);
// The highest bits of each level are kept, 0 to 8.
void posterize(Image& image, int bits);

// other + factor·(image − other), where `other` is black, the grey picture, the mean grey level, or
// the smoothed picture. Factor 1 changes nothing, a larger one goes beyond the picture.
void adjust_brightness(Image& image, float factor);
void adjust_color(Image& image, float factor);
void adjust_contrast(Image& image, float factor);
void adjust_sharpness(Image& image, float factor);

// Pixel (x, y) becomes what was at (m0·x + m1·y + m2, m3·x + m4·y + m5), all in coordinates in
// which pixel i covers [i, i + 1); `fill` where that lies outside. The cubic kernel has a = −1, as
// Pillow's transforms (not its resizing) do.
void affine(Image& image, const std::array<double, 6>& m, Interpolation interpolation,
            const std::array<uint8_t, 3>& fill);
// Counter-clockwise around the centre.
void rotate(Image& image, double degrees, Interpolation interpolation,
            const std::array<uint8_t, 3>& fill);

// Three box filters each way that together come near a Gaussian of this standard deviation in
// pixels; pixels at the edge count for those beyond.
void gaussian_blur(Image& image, float radius);

}  // namespace mullion
