// Numbers over a picture's pixels, drawn in colours or laid over it; several side by side.
#pragma once
#include <vector>

#include "data/image.h"

namespace mullion {

// Values of a grid, rows from top to bottom, at least 0.
struct HeatMap {
  int width = 0, height = 0;
  std::vector<float> values;
  float at(int x, int y) const {
    return values[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)];
  }
};

// Colours from white (0) over blue to red (`top`; 0: the largest value), each value `scale` pixels
// wide and high.
Image coloured(const HeatMap& map, int scale = 1, float top = 0);
// The picture in grey under the colours, each value `cell` pixels wide and high, the last ones as
// far as the picture goes: what is not looked at stays grey.
Image overlaid(const Image& picture, const HeatMap& map, int cell, float top = 0);
// Each pixel `times` wide and high.
Image enlarged(const Image& image, int times);
// A frame of one pixel around [x, x + width) x [y, y + height), which may stand over the edge.
void frame(Image& image, int x, int y, int width, int height);
// Images of one size in rows of `across`, with white between them.
Image sheet(const std::vector<Image>& images, int across);

}  // namespace mullion
